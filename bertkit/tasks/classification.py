"""Classification, regression and many labels a row: one pooled vector a text or pair (Devlin et al. 2019, section 4.1).

Letters: F features, E examples, C classes.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from bertkit.data.features import Array, Features, assemble_features
from bertkit.data.texts import Pieces, TextEncoder, cut_pair
from bertkit.data.windows import cut_into_windows
from bertkit.errors import TaskError
from bertkit.model import BertKitForSequenceClassification
from bertkit.tasks.problem import Prediction, Problem, ProblemOptions, encoder_inputs
from bertkit.tasks.spec import Example
from bertkit.train.loop import Batch, LossTerm


def _featurize(
    examples: Sequence[Example],
    encoder: TextEncoder,
    options: ProblemOptions,
    with_targets: bool,
    *,
    targets: Callable[[Sequence[Example], Array, ProblemOptions], dict[str, Array]],
) -> Features:
    """One feature a text or pair, cut to `max_seq_length`; or, with long_inputs 'windows', as many as cover the text.

    Windows run over the last text: the only one, or the second of a pair.

    Raises:
        TaskError: a label is not among `options.labels`; names the row.
    """
    rows, example_of, num_cut = [], [], 0
    firsts = encoder.encode([example.texts[0] for example in examples])
    seconds = iter(encoder.encode([example.texts[1] for example in examples if len(example.texts) > 1]))
    for number, (example, first) in enumerate(zip(examples, firsts, strict=True)):
        second = next(seconds) if len(example.texts) > 1 else None
        made, was_cut = _rows(encoder, first, second, options=options)
        rows += made
        example_of += [number] * len(made)
        num_cut += was_cut
    feature_targets = targets(examples, np.array(example_of, np.int64), options) if with_targets else {}
    return assemble_features(rows, example_of, feature_targets=feature_targets, num_cut=num_cut)


def _rows(
    encoder: TextEncoder, first: Pieces, second: Pieces | None, *, options: ProblemOptions
) -> tuple[list[tuple[Array, int]], bool]:
    """The encoder's rows for one example, and whether pieces were left out."""
    room = options.max_seq_length - (2 if second is None else 3)
    long = first if second is None else second
    taken = len(first) + (0 if second is None else len(second))
    if taken <= room:
        return [encoder.row(first.ids, None if second is None else second.ids)], False
    if options.long_inputs == "truncate":
        if second is None:
            return [encoder.row(first.ids[:room])], True
        keep_first, keep_second = cut_pair(len(first), len(second), room=room)
        return [encoder.row(first.ids[:keep_first], second.ids[:keep_second])], True
    # A first text of a pair never takes more than half of the room: the windows of the second need the rest.
    head = None if second is None else first.ids[: max(room - len(second), room // 2)]
    left = room - (0 if head is None else len(head))
    parts = [
        long.ids[start:end] for start, end in cut_into_windows(len(long), room=left, step=min(options.doc_stride, left))
    ]
    made = [encoder.row(part) if head is None else encoder.row(head, part) for part in parts]
    return made, head is not None and len(head) < len(first)


def _ids(examples: Sequence[Example], example_of: Array, options: ProblemOptions) -> dict[str, Array]:
    labels = label_ids(examples, options.labels)[example_of]
    if options.class_weights is None:
        return {"labels": labels}
    return {"labels": labels, "weights": np.array(options.class_weights, np.float32)[labels]}


def label_ids(examples: Sequence[Example], names: Sequence[str]) -> Array:
    """[E] the model's id of each example's label.

    Raises:
        TaskError: a label is missing or not among `names`; names the row.
    """
    ids = {name: number for number, name in enumerate(names)}
    for example in examples:
        if example.label not in ids:
            raise TaskError(unknown_label(example, example.label, names))
    return np.array([ids[str(example.label)] for example in examples], np.int64)


def unknown_label(example: Example, label: Any, names: Sequence[str]) -> str:
    """What to tell whoever trains on a row whose label the model does not have."""
    if label is None:
        return f"{example.place} has no label: fill it in, or remove the row"
    return f"{example.place} has the label {label!r}, which is not one of {', '.join(names[:20])}: mend the row"


def _numbers(examples: Sequence[Example], example_of: Array, _: ProblemOptions) -> dict[str, Array]:
    for example in examples:
        if not isinstance(example.label, int | float):
            raise TaskError(f"{example.place} has no number for a label: fill it in, or remove the row")
    return {"labels": np.array([example.label for example in examples], np.float32)[example_of]}


def _name_sets(examples: Sequence[Example], example_of: Array, options: ProblemOptions) -> dict[str, Array]:
    ids = {name: number for number, name in enumerate(options.labels)}
    labels_EC = np.zeros((len(examples), len(ids)), np.float32)
    for number, example in enumerate(examples):
        for name in example.label if isinstance(example.label, tuple) else (example.label,):
            if name not in ids:
                raise TaskError(unknown_label(example, name, options.labels))
            labels_EC[number, ids[str(name)]] = 1
    return {"labels": labels_EC[example_of]}


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    logits_FC: Tensor = model(**encoder_inputs(batch)).logits
    return logits_FC.float()


def _class_terms(model: nn.Module, batch: Batch) -> dict[str, LossTerm]:
    logits_FC, labels_F = _logits(model, batch), batch["labels"]
    losses_F = F.cross_entropy(logits_FC, labels_F, reduction="none")
    if "weights" in batch:
        losses_F = losses_F * batch["weights"]
    return {"label": LossTerm(losses_F.sum(), len(labels_F), (logits_FC.argmax(-1) == labels_F).sum())}


def _number_terms(model: nn.Module, batch: Batch) -> dict[str, LossTerm]:
    return {
        "squared_error": LossTerm((_logits(model, batch)[:, 0] - batch["labels"]).square().sum(), len(batch["labels"]))
    }


def _set_terms(model: nn.Module, batch: Batch) -> dict[str, LossTerm]:
    logits_FC, labels_FC = _logits(model, batch), batch["labels"]
    loss = F.binary_cross_entropy_with_logits(logits_FC, labels_FC, reduction="sum")
    return {"label": LossTerm(loss, labels_FC.numel(), ((logits_FC > 0) == (labels_FC > 0.5)).sum())}


def mean_by_example(values_F: Array, features: Features, num_examples: int) -> Array:
    """[E, ...] the mean over each example's features, which are the windows of its text."""
    starts = np.searchsorted(features.example_of, np.arange(num_examples))
    counts = np.diff([*starts, len(values_F)]).reshape(-1, *[1] * (values_F.ndim - 1))
    means: Array = np.add.reduceat(values_F, starts, axis=0) / counts
    return means


def _decode_classes(
    examples: Sequence[Example], features: Features, logits_FC: Array, options: ProblemOptions
) -> list[Prediction]:
    probabilities_EC = _softmax(mean_by_example(logits_FC, features, len(examples)))
    best_E, names = probabilities_EC.argmax(-1), options.labels
    return [
        Prediction(example.key, names[best], float(row[best]), {"probabilities": _by_name(row, names)})
        for example, best, row in zip(examples, best_E, probabilities_EC, strict=True)
    ]


def _decode_numbers(
    examples: Sequence[Example], features: Features, logits_FC: Array, _: ProblemOptions
) -> list[Prediction]:
    means_E = mean_by_example(logits_FC[:, 0], features, len(examples))
    return [Prediction(example.key, round(float(value), 6)) for example, value in zip(examples, means_E, strict=True)]


def _decode_sets(
    examples: Sequence[Example], features: Features, logits_FC: Array, options: ProblemOptions
) -> list[Prediction]:
    probabilities_EC = 1 / (1 + np.exp(-mean_by_example(logits_FC, features, len(examples))))
    thresholds = options.thresholds or (0.5,) * len(options.labels)
    return [
        Prediction(
            example.key,
            tuple(n for n, p, least in zip(options.labels, row, thresholds, strict=True) if p >= least),
            details={"probabilities": _by_name(row, options.labels)},
        )
        for example, row in zip(examples, probabilities_EC, strict=True)
    ]


def _softmax(logits: Array) -> Array:
    raised: Array = np.exp(logits - logits.max(-1, keepdims=True))
    shares: Array = raised / raised.sum(-1, keepdims=True)
    return shares


def _by_name(row_C: Array, names: Sequence[str]) -> dict[str, float]:
    return {name: round(float(value), 6) for name, value in zip(names, row_C, strict=True)}


CLASSIFICATION = Problem(
    name="classification",
    model_class=BertKitForSequenceClassification,
    level="feature",
    featurize=partial(_featurize, targets=_ids),
    loss_terms=_class_terms,
    target_counts=lambda batch: {"label": len(batch["labels"])},
    outputs=_logits,
    decode=_decode_classes,
)
REGRESSION = Problem(
    name="regression",
    model_class=BertKitForSequenceClassification,
    level="feature",
    featurize=partial(_featurize, targets=_numbers),
    loss_terms=_number_terms,
    target_counts=lambda batch: {"squared_error": len(batch["labels"])},
    outputs=_logits,
    decode=_decode_numbers,
)
MULTI_LABEL = Problem(
    name="multi_label",
    model_class=BertKitForSequenceClassification,
    level="feature",
    featurize=partial(_featurize, targets=_name_sets),
    loss_terms=_set_terms,
    target_counts=lambda batch: {"label": batch["labels"].numel()},
    outputs=_logits,
    decode=_decode_sets,
)
