"""The pre-training losses as sums and counts, to be divided once by the count of a whole step; and fine-tuning's means.

Shape letters: B rows, S row length, M masked positions, I instances, V vocabulary, C classes.
"""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils.generic import ModelOutput

IGNORED = -100  # the label transformers and torch give to positions without a target

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]

# What a batch calls the targets of each term.
LABELS = {"mlm": "labels", "lm": "lm_labels", "nsp": "next_sentence_label"}


def pretraining_losses(outputs: ModelOutput, batch: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Sum each loss in float32 over its targets and count them: ``{"mlm": (sum, count), "nsp": (sum, count)}``.

    outputs: of a forward without labels, `prediction_logits` (or `logits`) [M, V], or `mlm_sum` of one that was given
    `masked_labels`, and `seq_relationship_logits` [I, 2]; batch: `labels` [M], or `lm_labels` of words that were not
    masked, whose term is "lm", and `next_sentence_label` [I]. Without labels, no term (Devlin et al. 2019, 3.1).
    """
    return {
        term: (outputs["mlm_sum"] if _is_summed(term, outputs) else _summed(*_scored(term, outputs, batch)), count)
        for term, count in pretraining_counts(batch).items()
    }


@torch.no_grad()
def pretraining_correct(outputs: ModelOutput, batch: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Count right predictions and targets: ``{"mlm": (correct, count), "nsp": (correct, count)}``."""
    return {
        term: (outputs["mlm_correct"] if _is_summed(term, outputs) else _correct(*_scored(term, outputs, batch)), count)
        for term, count in pretraining_counts(batch).items()
    }


def pretraining_counts(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Count the targets of each term that has labels, on their device: ``{"mlm": count, "nsp": count}``."""
    return {term: (batch[name] != IGNORED).sum() for term, name in LABELS.items() if batch.get(name) is not None}


def problem_type_of(num_labels: int, labels: Tensor) -> ProblemType:
    """Guess what transformers would: one class is a number to predict, integers are ids, anything else many labels."""
    if num_labels == 1:
        return "regression"
    return "single_label_classification" if labels.dtype in (torch.long, torch.int) else "multi_label_classification"


def sequence_loss(logits_IC: Tensor, labels: Tensor, problem_type: ProblemType) -> Tensor:
    """Average the loss of sequence classification over labels [I] or [I, C], as transformers' BERT does."""
    if problem_type == "regression":
        return F.mse_loss(logits_IC.view(labels.shape), labels)
    if problem_type == "single_label_classification":
        return F.cross_entropy(logits_IC, labels.view(-1))
    return F.binary_cross_entropy_with_logits(logits_IC, labels)


def span_loss(logits_BS: Tensor, positions_B: Tensor) -> Tensor:
    """Average the loss of one end of a span over rows; a position outside its row marks a span cut off: no target."""
    row_length = logits_BS.shape[1]
    return F.cross_entropy(logits_BS, positions_B.view(-1).clamp(0, row_length), ignore_index=row_length)


def _is_summed(term: str, outputs: ModelOutput) -> bool:
    return term != "nsp" and "mlm_sum" in outputs


def _scored(term: str, outputs: ModelOutput, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    if term == "nsp":
        logits = outputs["seq_relationship_logits"]
    else:
        logits = outputs["prediction_logits"] if "prediction_logits" in outputs else outputs["logits"]
    return logits.flatten(0, -2), batch[LABELS[term]].flatten()


def _summed(logits: Tensor, labels: Tensor) -> Tensor:
    # Autocast would leave bfloat16 logits in bfloat16, and a sum over thousands of targets would lose its last digits.
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")


def _correct(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(-1) == labels).sum()
