"""What every kind of problem can do: make features of examples, a loss of a batch, and predictions of outputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn
from transformers import PreTrainedModel

from bertkit.data.features import Array, Features
from bertkit.data.texts import TextEncoder
from bertkit.tasks.spec import Example
from bertkit.train.loop import Batch, LossTerm


@dataclass(frozen=True)
class ProblemOptions:
    """What featurizing and decoding depend on; travels in the model's config, so that prediction repeats training.

    labels: names in the order of the model's ids. doc_stride: tokens from the start of one window to the next.
    class_weights: one a label, mean 1 over the training examples; None: all 1. thresholds: probability from which each
    label of multi_label counts. null_threshold: a question has no answer where the score of none exceeds that of the
    best span by more than it; None: every question has one (SQuAD 1.1).
    """

    labels: tuple[str, ...] = ()
    max_seq_length: int = 128
    doc_stride: int = 64
    long_inputs: Literal["truncate", "windows"] = "truncate"
    max_query_length: int = 64
    max_answer_length: int = 30
    n_best_size: int = 20
    class_weights: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    null_threshold: float | None = None


@dataclass(frozen=True)
class Prediction:
    """What a model says of one example: in the form of its label, how probable, and what else there is to know."""

    key: str
    value: Any
    probability: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """One kind of problem.

    featurize(examples, encoder, options, with_targets): every example becomes one feature or more.
    loss_terms(model, batch): sums and counts. target_counts(batch): the same counts, while the batch is on the host.
    outputs(model, batch): what decoding needs, one row a feature or a token, as `level` says.
    decode(examples, features, outputs, options): one prediction an example, in order.
    """

    name: str
    model_class: type[PreTrainedModel]
    level: Literal["feature", "token"]
    featurize: Callable[[Sequence[Example], TextEncoder, ProblemOptions, bool], Features]
    loss_terms: Callable[[nn.Module, Batch], dict[str, LossTerm]]
    target_counts: Callable[[Batch], dict[str, int]]
    outputs: Callable[[nn.Module, Batch], Tensor]
    decode: Callable[[Sequence[Example], Features, Array, ProblemOptions], list[Prediction]]


ENCODER_INPUTS = ("input_ids", "token_type_ids", "position_ids", "cu_seqlens", "max_seqlen")


def encoder_inputs(batch: Batch) -> dict[str, Any]:
    """The part of a packed batch that a model's forward takes."""
    return {name: batch[name] for name in ENCODER_INPUTS}
