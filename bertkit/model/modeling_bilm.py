"""An ELMo-style biLM (Peters et al. 2018) over packed tokens, beside BERT's classes and with their two doors.

Shape letters: B rows, S row length, T packed tokens, I instances, M places to predict, D hidden, H half of it (one
direction), V vocabulary.

It differs from ELMo in what it reads: word pieces instead of characters, so that it trains on the same token store as
every other objective and a comparison changes one thing; the characters of words are not in that store. And it is told
the segments of a pair, as BERT is. Positions it counts itself.
"""

# mypy: disallow-untyped-decorators=False
# Annotations must stay objects, not strings: transformers reads them to learn which outputs a forward can record.
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import ModelOutput
from transformers.utils.output_capturing import capture_outputs

from .configuration_bilm import BiLMConfig
from .dropout import Dropout
from .kwargs import BertKitKwargs
from .linear import Linear
from .losses import IGNORED
from .modeling_bertkit import (
    BertKitMaskedLMHead,
    BertKitPooler,
    BertKitPreTrainedModel,
    LabelledModel,
    TiedToWordEmbeddings,
)
from .modeling_heads import (
    BertKitForMultipleChoice,
    BertKitForQuestionAnswering,
    BertKitForSequenceClassification,
    BertKitForTokenClassification,
)
from .outputs import Encoded
from .packing import Layout, layout_of, the_one_given
from .reader import both_ends
from .recurrent import reset_lstm, run_lstm


class BiLMEmbeddings(nn.Module):
    """The sum of word and segment embeddings, normalised."""

    def __init__(self, config: BiLMConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, given: Tensor, token_type_ids: Tensor | None, layout: Layout) -> Tensor:
        # What is given are ids, or word embeddings the caller has looked up.
        given = layout.inward(given)
        words_TD = given if given.is_floating_point() else self.word_embeddings(given)
        if token_type_ids is None:
            segments_TD = self.token_type_embeddings.weight[0]
        else:
            segments_TD = self.token_type_embeddings(layout.inward(token_type_ids))
        normed_TD: Tensor = self.dropout(self.LayerNorm(words_TD + segments_TD))
        return normed_TD


class BiLMLayer(GradientCheckpointingLayer):
    """An LSTM from the left and one from the right, which never see one another; what they read is added from layer 2.

    Every state is [D]: the forward direction's [H], then the backward direction's.
    """

    def __init__(self, config: BiLMConfig, *, is_first: bool) -> None:
        super().__init__()
        half = config.hidden_size // 2
        self.is_first = is_first
        # Both read whole embeddings, and from then on only their own direction.
        width = config.hidden_size if is_first else half
        self.forwards = nn.LSTM(width, config.intermediate_size, proj_size=half)
        self.backwards = nn.LSTM(width, config.intermediate_size, proj_size=half)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        # Hidden states come in the caller's form when they are recorded, as in BertKitLayer.
        recorded = hidden.dim() == 3
        hidden_TD = layout.inward(hidden) if recorded else hidden
        left, right = (hidden_TD, hidden_TD) if self.is_first else hidden_TD.chunk(2, dim=-1)
        states_TH = run_lstm(self.forwards, left, layout), run_lstm(self.backwards, right, layout, reverse=True)
        read_TD = self.dropout(torch.cat(states_TH, dim=-1))
        hidden_TD = read_TD if self.is_first else hidden_TD + read_TD
        return layout.outward(hidden_TD) if recorded else hidden_TD


class BiLMHead(BertKitMaskedLMHead):
    """One direction's state [H] to the scores of every word; the same for both (Peters et al. 2018, section 3.1)."""

    def __init__(self, config: BiLMConfig) -> None:
        super().__init__(config)  # type: ignore[arg-type]  # it reads fields that both configs have
        self.dense = Linear(config.hidden_size // 2, config.hidden_size)


class BiLMPreTrainedModel(BertKitPreTrainedModel):
    """What every biLM shares: configuration and initialisation."""

    config_class = BiLMConfig  # type: ignore[assignment]
    config: BiLMConfig  # type: ignore[assignment]
    _no_split_modules = ["BiLMEmbeddings", "BiLMLayer"]  # noqa: RUF012
    _can_record_outputs = {"hidden_states": BiLMLayer}  # noqa: RUF012

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.LSTM):
            reset_lstm(module)


class BiLMModel(BiLMPreTrainedModel):
    """Two stacks of LSTMs; last_hidden_state [B, S, D] or [T, D] has the forward direction's half first."""

    def __init__(self, config: BiLMConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        config.check_is_possible()
        self.embeddings = BiLMEmbeddings(config)
        self.layers = nn.ModuleList([BiLMLayer(config, is_first=n == 0) for n in range(config.num_hidden_layers)])
        self.pooler = BertKitPooler(config) if add_pooling_layer else None  # type: ignore[arg-type]
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings."""
        self.embeddings.word_embeddings = value  # type: ignore[assignment]

    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        layout: Layout | None = None,
        **kwargs: Unpack[BertKitKwargs],
    ) -> tuple[Tensor, ...] | BaseModelOutputWithPooling:
        """Encode rows [B, S] or packed tokens [T]; returns states in the same form and, pooled, [I, D].

        Pooled is what each direction has in the end, through a tanh layer. position_ids: taken as every encoder takes
        them, and not read. layout: where the tokens lie, if the caller has worked it out already.
        """
        if layout is None:
            layout = layout_of(input_ids, inputs_embeds, attention_mask, **kwargs)
        if attention_mask is not None and attention_mask.dim() > 2:
            raise ValueError("an LSTM cannot be told who sees whom: give an attention_mask [B, S] of padding")
        hidden = self.embeddings(the_one_given(input_ids, inputs_embeds), token_type_ids, layout)
        recorded = kwargs.get("output_hidden_states", self.config.output_hidden_states)
        hidden = layout.outward(hidden) if recorded else hidden
        for layer in self.layers:
            hidden = layer(hidden, layout)
        hidden_TD = layout.inward(hidden) if recorded else hidden
        before_TH, behind_TH = hidden_TD.chunk(2, dim=-1)
        pooled_ID = None if self.pooler is None else self.pooler(both_ends(before_TH, behind_TH, layout))
        states = hidden if recorded else layout.outward(hidden_TD)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled_ID)


BiLMPreTrainedModel.encoder_class = BiLMModel


@dataclass
class BiLMForPreTrainingOutput(ModelOutput):
    """Both directions' scores of the words at every token: [B, S, V], or [M, V] at `masked_positions`.

    A text's first word has no forward scores and its last no backward ones: they are zero there. loss: the mean of the
    directions' mean losses. Given `masked_labels`, in the place of logits: mlm_sum: the loss summed over its targets;
    mlm_correct: how many of them score highest; both the mean of the two directions.
    """

    loss: Tensor | None = None
    forward_logits: Tensor | None = None
    backward_logits: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    mlm_sum: Tensor | None = None
    mlm_correct: Tensor | None = None


class BiLMForPreTraining(BiLMPreTrainedModel, TiedToWordEmbeddings, LabelledModel):
    """A biLM that predicts every word twice: from the words before it, and from those behind it.

    labels [B, S] or [T]: the words themselves; -100: not predicted. With `masked_positions`, [M]: the words there, none
    of which may be an instance's first or last token.
    """

    output_class = BiLMForPreTrainingOutput

    def __init__(self, config: BiLMConfig) -> None:
        super().__init__(config)
        self.bert = self.encoder_class(config, add_pooling_layer=False)
        self.mlm_head = BiLMHead(config)
        self.post_init()

    def _score(self, encoded: Encoded, labels: Tensor | None) -> dict[str, Tensor | None]:
        if encoded.masked_positions is None:
            return self._score_everywhere(encoded, labels)
        before_TH, behind_TH = encoded.hidden_TD.chunk(2, dim=-1)
        before_MH = before_TH.index_select(0, encoded.masked_positions - 1)
        behind_MH = behind_TH.index_select(0, encoded.masked_positions + 1)
        if encoded.masked_labels is not None:
            sums = self.mlm_head.sums(torch.cat([before_MH, behind_MH]), encoded.masked_labels.repeat(2))
            return {name: of_both / 2 for name, of_both in sums.items()}
        logits = self.mlm_head(before_MH), self.mlm_head(behind_MH)
        loss = None if labels is None else _mean_loss(logits, (labels, labels))
        return {"loss": loss, "forward_logits": logits[0], "backward_logits": logits[1]}

    def _score_everywhere(self, encoded: Encoded, labels: Tensor | None) -> dict[str, Tensor | None]:
        layout = encoded.layout
        states_TH = [half.roll(step, 0) for half, step in zip(encoded.hidden_TD.chunk(2, -1), (1, -1), strict=True)]
        unpredicted = layout.first_token_I.long(), layout.last_token_I.long()
        logits = [
            self.mlm_head(states).index_fill(0, places, 0.0)
            for states, places in zip(states_TH, unpredicted, strict=True)
        ]
        loss = None
        if labels is not None:
            labels_T = layout.inward(labels)
            loss = _mean_loss(logits, [labels_T.index_fill(0, places, IGNORED) for places in unpredicted])
        forward_logits, backward_logits = (layout.outward(each) for each in logits)
        return {"loss": loss, "forward_logits": forward_logits, "backward_logits": backward_logits}


class BiLMForSequenceClassification(BiLMPreTrainedModel, BertKitForSequenceClassification):
    """A biLM with a classifier or regressor on the pooled vector, as `BertKitForSequenceClassification`."""


class BiLMForTokenClassification(BiLMPreTrainedModel, BertKitForTokenClassification):
    """A biLM with a classifier on every token, as `BertKitForTokenClassification`."""


class BiLMForQuestionAnswering(BiLMPreTrainedModel, BertKitForQuestionAnswering):
    """A biLM with the scores of a span's start and end at every token, as `BertKitForQuestionAnswering`."""


class BiLMForMultipleChoice(BiLMPreTrainedModel, BertKitForMultipleChoice):
    """A biLM with one score for each pairing of a context and a choice, as `BertKitForMultipleChoice`."""


def _mean_loss(logits_of: Sequence[Tensor], labels_of: Sequence[Tensor]) -> Tensor:
    losses = [F.cross_entropy(logits, labels) for logits, labels in zip(logits_of, labels_of, strict=True)]
    return torch.stack(losses).mean()
