"""Encoded examples, columnar, and the packed batches made of them.

Letters: F features (one input of the encoder each), T tokens of all features end to end, G groups of features.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Features:
    """What examples became: one feature each, several where a text is cut into windows or comes with choices.

    input_ids: [T], special tokens included. bounds: [F + 1] where each feature starts. segment_b: [F] where token
    type 1 starts within the feature; its length where there is no second text. example_of: [F] the number of its
    example, ascending. group_bounds: [G + 1] which features stay in one batch: the choices of one example; None where
    each feature is a group. token_targets [T], feature_targets [F, ...], group_targets [G]: what the loss needs.
    alignment: [T, ...] arrays that decoding needs and the model does not. num_cut: examples that lost tokens.
    """

    input_ids: Array
    bounds: Array
    segment_b: Array
    example_of: Array
    group_bounds: Array | None = None
    token_targets: Mapping[str, Array] = field(default_factory=dict)
    feature_targets: Mapping[str, Array] = field(default_factory=dict)
    group_targets: Mapping[str, Array] = field(default_factory=dict)
    alignment: Mapping[str, Array] = field(default_factory=dict)
    num_cut: int = 0

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @property
    def num_groups(self) -> int:
        """Groups, which are what a batch is made of."""
        return len(self) if self.group_bounds is None else len(self.group_bounds) - 1

    @property
    def lengths(self) -> Array:
        """[F] tokens of each feature."""
        return np.diff(self.bounds)

    def features_of(self, groups: Array) -> Array:
        """The numbers of the features of `groups`, in order."""
        return groups if self.group_bounds is None else ranges(self.group_bounds[groups], self.group_bounds[groups + 1])

    def tokens_of(self, features: Array) -> Array:
        """The places in [T] of the tokens of `features`, in order."""
        return ranges(self.bounds[features], self.bounds[features + 1])


def assemble_features(rows: Sequence[tuple[Array, int]], example_of: Iterable[int], **others: Any) -> Features:
    """Features of rows (input ids, where segment B starts) and the example each belongs to."""
    lengths = [len(ids) for ids, _ in rows]
    return Features(
        input_ids=np.concatenate([ids for ids, _ in rows]).astype(np.int32) if rows else np.zeros(0, np.int32),
        bounds=np.cumsum([0, *lengths]),
        segment_b=np.array([start for _, start in rows], dtype=np.int64),
        example_of=np.fromiter(example_of, dtype=np.int64),
        **others,
    )


def concatenate_features(parts: Sequence[Features]) -> Features:
    """The features of several lots of examples, featurized one after another, as those of one; without alignment."""
    tokens = np.cumsum([0, *(len(part.input_ids) for part in parts)])
    examples = np.cumsum([0, *(int(part.example_of[-1]) + 1 if len(part) else 0 for part in parts)])
    groups = [part.group_bounds for part in parts if part.group_bounds is not None]
    features = np.cumsum([0, *(len(part) for part in parts)])
    return Features(
        input_ids=np.concatenate([part.input_ids for part in parts]),
        bounds=np.concatenate([[0], *(part.bounds[1:] + start for part, start in zip(parts, tokens, strict=False))]),
        segment_b=np.concatenate([part.segment_b for part in parts]),
        example_of=np.concatenate([part.example_of + start for part, start in zip(parts, examples, strict=False)]),
        group_bounds=np.concatenate([[0], *(b[1:] + start for b, start in zip(groups, features, strict=False))])
        if groups
        else None,
        **{
            kind: {name: np.concatenate([getattr(p, kind)[name] for p in parts]) for name in getattr(parts[0], kind)}
            for kind in ("token_targets", "feature_targets", "group_targets")
        },
        num_cut=sum(part.num_cut for part in parts),
    )


def collate_features(features: Features, groups: Array) -> dict[str, Any]:
    """The packed batch of some groups: ids, types, positions [T], `cu_seqlens` [F + 1], `max_seqlen`, and targets."""
    chosen = features.features_of(groups)
    tokens = features.tokens_of(chosen)
    lengths = features.lengths[chosen]
    cu_seqlens = np.cumsum([0, *lengths])
    positions = np.arange(len(tokens)) - np.repeat(cu_seqlens[:-1], lengths)
    targets = {
        **{name: values[tokens] for name, values in features.token_targets.items()},
        **{name: values[chosen] for name, values in features.feature_targets.items()},
        **{name: values[groups] for name, values in features.group_targets.items()},
    }
    if features.group_bounds is not None:
        targets["group_sizes"] = np.diff(features.group_bounds)[groups]
    return {
        "input_ids": torch.from_numpy(features.input_ids[tokens].astype(np.int64)),
        "token_type_ids": torch.from_numpy(
            (positions >= np.repeat(features.segment_b[chosen], lengths)).astype(np.int64)
        ),
        "position_ids": torch.from_numpy(positions),
        "cu_seqlens": torch.from_numpy(cu_seqlens.astype(np.int32)),
        "max_seqlen": int(lengths.max()),
        **{name: torch.from_numpy(values) for name, values in targets.items()},
    }


def batches_by_length(features: Features, *, max_tokens: int) -> list[Array]:
    """Groups in batches of about equal lengths and, padding counted, up to `max_tokens` tokens; longest first."""
    group_bounds = np.arange(len(features) + 1) if features.group_bounds is None else features.group_bounds
    longest = np.maximum.reduceat(features.lengths, group_bounds[:-1]) if len(features) else np.zeros(0, np.int64)
    sizes = np.diff(group_bounds)
    batches: list[Array] = []
    batch: list[int] = []
    num_features = 0
    for group in np.argsort(-longest, kind="stable"):
        if batch and (num_features + sizes[group]) * longest[batch[0]] > max_tokens:
            batches.append(np.array(batch))
            batch, num_features = [], 0
        batch.append(int(group))
        num_features += int(sizes[group])
    return [*batches, np.array(batch)] if batch else batches


def ranges(starts: Array, ends: Array) -> Array:
    """The integers from every start up to its end, one range after another."""
    sizes = ends - starts
    behind = np.cumsum(sizes)
    integers: Array = np.arange(behind[-1] if len(behind) else 0) + np.repeat(starts - (behind - sizes), sizes)
    return integers
