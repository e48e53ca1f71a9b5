"""What the models give back beyond transformers' own outputs, and what the encoder hands to a head.

Shape letters: B rows, S row length, T packed tokens, I instances, M masked positions, D hidden, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling, MaskedLMOutput
from transformers.utils.generic import ModelOutput

from .packing import Layout


@dataclass(frozen=True)
class Encoded:
    """What a head reads: packed states, pooled states, where the tokens lie, and the outputs it must pass on."""

    hidden_TD: Tensor
    pooled_ID: Tensor | None
    layout: Layout
    outputs: BaseModelOutputWithPooling
    masked_positions: Tensor | None
    masked_labels: Tensor | None

    def recorded(self) -> dict[str, Any]:
        """The recorded hidden states and attentions, as fields of a head's output."""
        return {"hidden_states": self.outputs.hidden_states, "attentions": self.outputs.attentions}


@dataclass
class BertKitForPreTrainingOutput(ModelOutput):
    """Both heads' scores: `prediction_logits` [B, S, V], or [M, V] packed, and `seq_relationship_logits` [I, 2].

    loss: the sum of the means of the losses whose labels were given. Given `masked_labels`, in the place of logits:
    mlm_sum: the masked LM loss summed over its targets; mlm_correct: how many of them score highest.
    """

    loss: Tensor | None = None
    prediction_logits: Tensor | None = None
    seq_relationship_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    mlm_sum: Tensor | None = None
    mlm_correct: Tensor | None = None


@dataclass
class BertKitMaskedLMOutput(MaskedLMOutput):
    """Scores of words as transformers gives them, or `mlm_sum` and `mlm_correct` as `BertKitForPreTrainingOutput`."""

    mlm_sum: Tensor | None = None
    mlm_correct: Tensor | None = None
