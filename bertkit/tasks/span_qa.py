"""Questions about a context, answered by a span of it or, in SQuAD 2.0, by none (Devlin et al. 2019, 4.2 and 4.3).

Letters: E examples, F features (one a window of a context), K context tokens of all features, T tokens of all features,
S row length.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertkit.data.collate import IGNORED
from bertkit.data.features import Array, Features, assemble_features, ranges
from bertkit.data.texts import Pieces, TextEncoder
from bertkit.data.windows import cut_into_windows, has_max_context, window_tokens
from bertkit.errors import TaskError
from bertkit.model import BertKitForQuestionAnswering
from bertkit.model.packing import packed_layout
from bertkit.tasks.problem import Problem, ProblemOptions, encoder_inputs
from bertkit.tasks.span_decode import decode_spans
from bertkit.tasks.spec import Answer, Example
from bertkit.train.loop import Batch, LossTerm

logger = logging.getLogger(__name__)

# A target of training that no window has: the answer does not stand where the example says.
_NOWHERE = (IGNORED, IGNORED)
_NO_ANSWER = (-1, -1)
_PLACES_NAMED = 5


@dataclass(frozen=True)
class _Contexts:
    """The pieces of all contexts, each once: ids, characters [start, end), bounds of each; every example's context."""

    ids: Array
    offsets: Array
    bounds: Array
    of_example: Array


def _featurize(
    examples: Sequence[Example], encoder: TextEncoder, options: ProblemOptions, with_targets: bool
) -> Features:
    """[CLS] question [SEP] window of the context [SEP], as many windows as cover the context.

    Targets are the places in the feature of the first answer's first and last token; of [CLS] (0) where there is no
    answer or not all of it is in the window; ignored where the context does not hold the answer at its offset.

    Raises:
        TaskError: an example has no answers to train on, not even none; names the row.
    """
    # The context keeps half of the room at least.
    longest = min(options.max_query_length, (options.max_seq_length - 3) // 2)
    encoded = encoder.encode([example.texts[0] for example in examples])
    questions = [pieces.ids[:longest] for pieces in encoded]
    contexts = _encode_contexts(examples, encoder)
    sizes_E = np.diff(contexts.bounds)[contexts.of_example]
    windows = [
        cut_into_windows(size, room=options.max_seq_length - 3 - len(question), step=options.doc_stride)
        for question, size in zip(questions, sizes_E.tolist(), strict=True)
    ]
    example_of = np.repeat(np.arange(len(examples)), np.array([*map(len, windows)], np.int64))
    windows_F2 = np.concatenate([np.zeros((0, 2), np.int64), *windows])
    in_all_F2 = windows_F2 + contexts.bounds[contexts.of_example[example_of]].reshape(-1, 1)
    rows = [
        encoder.row(questions[number], contexts.ids[start:end])
        for number, (start, end) in zip(example_of.tolist(), in_all_F2.tolist(), strict=True)
    ]
    features = assemble_features(rows, example_of, num_cut=sum(len(pieces) > longest for pieces in encoded))
    features = replace(features, alignment=_alignment(features, windows_F2, contexts.offsets[window_tokens(in_all_F2)]))
    if not with_targets:
        return features
    spans_E2 = _answer_spans(examples, contexts)
    return replace(features, feature_targets=_targets(spans_E2[example_of], windows_F2, features.segment_b))


def _encode_contexts(examples: Sequence[Example], encoder: TextEncoder) -> _Contexts:
    entries: dict[str, int] = {}
    of_example = np.array([entries.setdefault(example.texts[1], len(entries)) for example in examples], np.int64)
    encoded = encoder.encode(list(entries), with_offsets=True)
    return _Contexts(
        ids=np.concatenate([np.zeros(0, np.int32), *(pieces.ids for pieces in encoded)]),
        offsets=np.concatenate([np.zeros((0, 2), np.int32), *map(_offsets, encoded)]),
        bounds=np.cumsum([0, *map(len, encoded)]),
        of_example=of_example,
    )


def _offsets(pieces: Pieces) -> Array:
    return np.zeros((0, 2), np.int32) if pieces.offsets is None else pieces.offsets


def _alignment(features: Features, windows_F2: Array, offsets_K2: Array) -> dict[str, Array]:
    """offsets [T, 2]: the characters of the context that a token stands for; max_context [T]: a span may start here."""
    context_K = ranges(features.bounds[:-1] + features.segment_b, features.bounds[1:] - 1)
    offsets_T2 = np.zeros((len(features.input_ids), 2), np.int32)
    offsets_T2[context_K] = offsets_K2
    max_context_T = np.zeros(len(features.input_ids), bool)
    max_context_T[context_K] = has_max_context(features.example_of, windows_F2)
    return {"offsets": offsets_T2, "max_context": max_context_T}


def _answer_spans(examples: Sequence[Example], contexts: _Contexts) -> Array:
    """[E, 2] first and last token of each example's first answer, counted in its context."""
    spans = []
    for example, context in zip(examples, contexts.of_example, strict=True):
        offsets = contexts.offsets[contexts.bounds[context] : contexts.bounds[context + 1]]
        spans.append(_answer_span(example, offsets))
    misplaced = [example.place for example, span in zip(examples, spans, strict=True) if span == _NOWHERE]
    if misplaced:
        named = ", ".join(misplaced[:_PLACES_NAMED]) + (", ..." if len(misplaced) > _PLACES_NAMED else "")
        logger.warning("%s answers do not stand at their offset and are not trained on: %s", len(misplaced), named)
    return np.array(spans, np.int64).reshape(-1, 2)


def _answer_span(example: Example, offsets: Array) -> tuple[int, int]:
    """A token that an answer starts or ends in the middle of belongs to it."""
    if not isinstance(example.label, tuple):
        raise TaskError(f"{example.place} has no answers: give them, or an empty list where the context has none")
    if not example.label:
        return _NO_ANSWER
    answer = example.label[0]
    if not isinstance(answer, Answer) or answer.start < 0 or not example.texts[1].startswith(answer.text, answer.start):
        return _NOWHERE
    first = int(np.searchsorted(offsets[:, 1], answer.start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], answer.start + len(answer.text), side="left")) - 1
    # Nothing is left of an answer of blanks.
    return (first, last) if first <= last else _NOWHERE


def _targets(spans_F2: Array, windows_F2: Array, context_starts: Array) -> dict[str, Array]:
    first_F, last_F = spans_F2.T
    inside_F = (first_F >= windows_F2[:, 0]) & (last_F < windows_F2[:, 1])
    shift_F = context_starts - windows_F2[:, 0]
    ignored_F = first_F == IGNORED
    return {
        name: np.where(ignored_F, IGNORED, np.where(inside_F, ends_F + shift_F, 0))
        for name, ends_F in (("start_positions", first_F), ("end_positions", last_F))
    }


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    outputs = model(**encoder_inputs(batch))
    return torch.stack([outputs.start_logits, outputs.end_logits], dim=-1).float()


def _loss_terms(model: nn.Module, batch: Batch) -> dict[str, LossTerm]:
    logits_T2 = _logits(model, batch)
    starts_F, ends_F = batch["start_positions"], batch["end_positions"]
    # Every feature is a distribution over its own tokens; at the border of a head, rows are the cheapest way to say so.
    layout = packed_layout(batch["cu_seqlens"], batch["max_seqlen"], len(logits_T2))
    logits_FS2 = layout.to_rows(logits_T2, fill=torch.finfo(torch.float32).min)
    losses = [
        F.cross_entropy(logits_FS2[..., side], positions_F, ignore_index=IGNORED, reduction="sum")
        for side, positions_F in enumerate((starts_F, ends_F))
    ]
    found_F2 = logits_FS2.argmax(1)
    correct = ((found_F2[:, 0] == starts_F) & (found_F2[:, 1] == ends_F)).sum()
    return {"span": LossTerm((losses[0] + losses[1]) / 2, (starts_F != IGNORED).sum(), correct)}


SPAN_QA = Problem(
    name="span_qa",
    model_class=BertKitForQuestionAnswering,
    level="token",
    featurize=_featurize,
    loss_terms=_loss_terms,
    target_counts=lambda batch: {"span": int((batch["start_positions"] != IGNORED).sum())},
    outputs=_logits,
    decode=decode_spans,
)
