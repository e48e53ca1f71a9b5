"""BERT as in the paper (Devlin et al. 2019), in the paper's order, over packed tokens: the encoder and pre-training.

Shape letters: B rows, S row length, T packed tokens, I instances, M masked positions, D hidden, N heads, H head size,
F feed-forward, V vocabulary, C classes.

Every class has two doors to one forward:

- Hugging Face's: `input_ids` [B, S] with `attention_mask`, padded in and padded out, as transformers' `Bert*` classes.
  Padding is never computed and has no loss: hidden states and logits are zero there (span logits the lowest number, so
  that no span starts or ends in padding).
- the packed one: `input_ids` [T] with `cu_seqlens` [I + 1] and `max_seqlen`; states and logits come back packed, those
  of a masked LM head at `masked_positions` [M] only. Nothing in it waits for the device.
"""

# mypy: disallow-untyped-decorators=False
# Annotations must stay objects, not strings: transformers reads them to learn which outputs a forward can record.
from dataclasses import replace
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPooling, NextSentencePredictorOutput
from transformers.utils.generic import ModelOutput, can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .attention import attend
from .configuration_bertkit import BertKitConfig
from .convert import register_conversions
from .dropout import Dropout
from .kwargs import BertKitKwargs
from .linear import Linear
from .losses import IGNORED
from .outputs import BertKitForPreTrainingOutput, BertKitMaskedLMOutput, Encoded
from .packing import Layout, layout_of, rounded_up, the_one_given
from .vocabulary_loss import vocabulary_loss

register_conversions()  # here, since this file also travels alone, beside weights that are opened by their own code


# ---- the encoder: section 3, "Model Architecture" and "Input/Output Representations" ----


class BertKitEmbeddings(nn.Module):
    """The sum of word, segment and position embeddings, normalised (figure 2)."""

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self, given: Tensor, token_type_ids: Tensor | None, position_ids: Tensor | None, layout: Layout
    ) -> Tensor:
        # What is given are ids, or word embeddings the caller has looked up.
        words_TD = layout.inward(given) if given.is_floating_point() else self.word_embeddings(layout.inward(given))
        position_ids_T = self._positions(layout) if position_ids is None else layout.inward(position_ids)
        token_type_ids_T = torch.zeros_like(position_ids_T) if token_type_ids is None else layout.inward(token_type_ids)
        segments_TD = self.token_type_embeddings(token_type_ids_T)
        positions_TD = self.position_embeddings(position_ids_T)
        normed_TD: Tensor = self.dropout(self.LayerNorm(words_TD + segments_TD + positions_TD))
        return normed_TD

    def _positions(self, layout: Layout) -> Tensor:
        if layout.row_length > self.position_embeddings.num_embeddings:
            raise ValueError(
                f"a sequence of {layout.row_length} tokens exceeds max_position_embeddings "
                f"{self.position_embeddings.num_embeddings}: truncate the first or raise the second"
            )
        return layout.positions_T()


class BertKitAttention(nn.Module):
    """Multi-head self-attention, its output projection, and the residual normalised after it (Vaswani et al. 2017)."""

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__()
        self.config = config
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_TD: Tensor, layout: Layout) -> tuple[Tensor, Tensor | None]:
        qkv_T3NH = self.qkv(hidden_TD).unflatten(-1, (3, self.config.num_attention_heads, -1))
        context_TNH, weights_BNSS = attend(
            qkv_T3NH,
            layout,
            implementation=self.config._attn_implementation or "eager",
            dropout=self.config.attention_probs_dropout_prob if self.training else 0.0,
            causal=self.config.is_decoder,
        )
        projected_TD = self.dropout(self.out(context_TNH.flatten(1)))
        return self.LayerNorm(hidden_TD + projected_TD), weights_BNSS


class BertKitFeedForward(nn.Module):
    """Two projections with GELU between them, and the residual normalised after them."""

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__()
        self.up = Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.down = Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        inner_TF = self.activation(self.up(hidden_TD))
        normed_TD: Tensor = self.LayerNorm(hidden_TD + self.dropout(self.down(inner_TF)))
        return normed_TD


class BertKitLayer(GradientCheckpointingLayer):
    """One block of the encoder: attention, then feed-forward."""

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__()
        self.attention = BertKitAttention(config)
        self.feed_forward = BertKitFeedForward(config)

    def forward(self, hidden: Tensor, layout: Layout) -> Tensor:
        # Hidden states come in the caller's form when they are recorded, so that what the caller holds lies on the path
        # of the gradient; packed, as they are computed, otherwise.
        recorded = hidden.dim() == 3
        hidden_TD = layout.inward(hidden) if recorded else hidden
        hidden_TD = self.feed_forward(self.attention(hidden_TD, layout)[0])
        return layout.outward(hidden_TD) if recorded else hidden_TD


class BertKitPooler(nn.Module):
    """One token's hidden state through a tanh layer: one vector an instance (the paper's C)."""

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_ID: Tensor) -> Tensor:
        return torch.tanh(self.dense(hidden_ID))


# ---- the heads of pre-training: section 3.1 ----


class BertKitMaskedLMHead(nn.Module):
    """Task 1: a hidden state to the scores of every word, by the transposed word embeddings."""

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = Linear(config.hidden_size, config.vocab_size)

    def forward(self, hidden_MD: Tensor) -> Tensor:
        logits_MV: Tensor = self.decoder(self._transformed(hidden_MD))
        return logits_MV

    def sums(self, hidden_MD: Tensor, labels_M: Tensor) -> dict[str, Tensor]:
        """Sum the loss and count the right words over the targets, without logits [M, V] in memory."""
        if hidden_MD.device.type == "cpu":
            more = rounded_up(len(hidden_MD)) - len(hidden_MD)
            hidden_MD, labels_M = F.pad(hidden_MD, (0, 0, 0, more)), F.pad(labels_M, (0, more), value=IGNORED)
        loss, correct = vocabulary_loss(self._transformed(hidden_MD), self.decoder.weight, self.decoder.bias, labels_M)
        return {"mlm_sum": loss, "mlm_correct": correct}

    def _transformed(self, hidden_MD: Tensor) -> Tensor:
        normed_MD: Tensor = self.LayerNorm(self.activation(self.dense(hidden_MD)))
        return normed_MD


# ---- the models ----


class BertKitPreTrainedModel(PreTrainedModel):
    """What every bertkit model shares: configuration, initialisation, and the door from a head to the encoder."""

    config_class = BertKitConfig
    config: BertKitConfig
    base_model_prefix = "bert"
    supports_gradient_checkpointing = True
    # Every loss here is a mean over its own batch, so Trainer must divide it by the accumulation steps itself.
    accepts_loss_kwargs = False
    encoder_class: type[PreTrainedModel]  # of the classes with a head: BertKitModel
    bert: nn.Module  # that encoder
    _no_split_modules = ["BertKitEmbeddings", "BertKitLayer"]  # noqa: RUF012
    _supports_sdpa = True
    _can_record_outputs = {"hidden_states": BertKitLayer, "attentions": BertKitAttention}  # noqa: RUF012

    @classmethod
    def _can_set_attn_implementation(cls) -> bool:
        # transformers guesses this from the source text; attention here reads the config at every call.
        return True

    def _encode(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        masked_positions: Tensor | None = None,
        masked_labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Encoded:
        """Run the encoder under a head."""
        layout = layout_of(input_ids, inputs_embeds, attention_mask, **kwargs)
        if masked_positions is not None and layout.form == "rows":
            raise ValueError("masked_positions count packed tokens: give cu_seqlens and max_seqlen with them")
        if masked_labels is not None and masked_positions is None:
            raise ValueError("masked_labels say what stood at masked_positions: give these too")
        kwargs.update(layout=layout, return_dict=True)
        outputs = self.bert(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        hidden_TD = layout.inward(outputs.last_hidden_state)
        return Encoded(hidden_TD, outputs.pooler_output, layout, outputs, masked_positions, masked_labels)


class BertKitModel(BertKitPreTrainedModel):
    """The BERT encoder, agreeing with transformers' `BertModel` (Devlin et al. 2019, section 3)."""

    def __init__(self, config: BertKitConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        config.check_is_possible()
        self.embeddings = BertKitEmbeddings(config)
        self.layers = nn.ModuleList([BertKitLayer(config) for _ in range(config.num_hidden_layers)])
        self.pooler = BertKitPooler(config) if add_pooling_layer else None
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

        layout: where the tokens lie, if the caller has worked it out already.
        """
        if layout is None:
            layout = layout_of(input_ids, inputs_embeds, attention_mask, **kwargs)
        given = the_one_given(input_ids, inputs_embeds)
        embeddings_TD = self.embeddings(given, token_type_ids, position_ids, layout)
        recorded = kwargs.get("output_hidden_states", self.config.output_hidden_states)
        inside = replace(layout, tail=0) if recorded else layout
        hidden = layout.outward(embeddings_TD) if recorded else F.pad(embeddings_TD, (0, 0, 0, layout.tail))
        for layer in self.layers:
            hidden = layer(hidden, inside)
        hidden_TD = layout.inward(hidden) if recorded else hidden[: embeddings_TD.shape[0]]
        pooled_I = layout.last_token_I if self.config.pooled_token == "last" else layout.first_token_I
        pooled_ID = None if self.pooler is None else self.pooler(hidden_TD.index_select(0, pooled_I))
        states = hidden if recorded else layout.outward(hidden_TD)
        return BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=pooled_ID)


BertKitPreTrainedModel.encoder_class = BertKitModel


class LabelledModel(BertKitPreTrainedModel):
    """A model with one head and one kind of labels: the encoder runs, then `_score` makes of it a loss and logits."""

    output_class: type[ModelOutput]

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[BertKitKwargs],
    ) -> tuple[Tensor, ...] | ModelOutput:
        """Encode and score; the shapes of logits and labels stand in the docstring of each class."""
        encoded = self._encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        return self.output_class(**self._score(encoded, labels), **encoded.recorded())

    def _score(self, encoded: Encoded, labels: Tensor | None) -> dict[str, Tensor | None]:
        raise NotImplementedError


class TiedToWordEmbeddings(BertKitPreTrainedModel):
    """A model whose masked LM head shares its matrix with the word embeddings."""

    _tied_weights_keys = {"mlm_head.decoder.weight": "bert.embeddings.word_embeddings.weight"}  # noqa: RUF012

    mlm_head: BertKitMaskedLMHead

    def get_output_embeddings(self) -> nn.Linear:
        """The projection to the vocabulary."""
        return self.mlm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the projection to the vocabulary."""
        self.mlm_head.decoder = new_embeddings  # type: ignore[assignment]

    def _score(self, encoded: Encoded, labels: Tensor | None) -> dict[str, Tensor | None]:
        """Average the loss over the labels, and score words at the masked positions [M, V] or at every token."""
        if encoded.masked_positions is not None:
            hidden_MD = encoded.hidden_TD.index_select(0, encoded.masked_positions)
            if encoded.masked_labels is not None:
                return {**self.mlm_head.sums(hidden_MD, encoded.masked_labels)}
            logits_MV = self.mlm_head(hidden_MD)
            return {"loss": None if labels is None else F.cross_entropy(logits_MV, labels), "logits": logits_MV}
        logits_TV = self.mlm_head(encoded.hidden_TD)
        loss = None if labels is None else F.cross_entropy(logits_TV, self._targets(encoded.layout, labels))
        return {"loss": loss, "logits": encoded.layout.outward(logits_TV)}

    def _targets(self, layout: Layout, labels: Tensor) -> Tensor:
        """The word to predict at every token [T]: the one there or, where no later one is seen, the next."""
        labels_T = layout.inward(labels)
        if not self.config.is_decoder:
            return labels_T
        return labels_T.roll(-1, 0).index_fill(0, layout.last_token_I.long(), IGNORED)


class BertKitForPreTraining(TiedToWordEmbeddings):
    """BERT with both pre-training heads: masked LM and next sentence prediction (section 3.1).

    Of a left-to-right one (`config.is_decoder`) the words are predicted as in `BertKitForCausalLM`.
    """

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__(config)
        self.bert = self.encoder_class(config)
        self.mlm_head = BertKitMaskedLMHead(config)
        self.nsp_head = Linear(config.hidden_size, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        **kwargs: Unpack[BertKitKwargs],
    ) -> tuple[Tensor, ...] | BertKitForPreTrainingOutput:
        """Score words and next sentences; labels [B, S] with -100 where none, or [M] packed; 0 in [I]: B follows A."""
        encoded = self._encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        scores = self._score(encoded, labels)
        loss = scores.get("loss")
        logits_I2 = self.nsp_head(encoded.pooled_ID)
        if next_sentence_label is not None:
            nsp_loss = F.cross_entropy(logits_I2, next_sentence_label.view(-1))
            loss = nsp_loss if loss is None else loss + nsp_loss
        return BertKitForPreTrainingOutput(
            loss=loss,
            prediction_logits=scores.get("logits"),
            seq_relationship_logits=logits_I2,
            mlm_sum=scores.get("mlm_sum"),
            mlm_correct=scores.get("mlm_correct"),
            **encoded.recorded(),
        )


class BertKitForMaskedLM(TiedToWordEmbeddings, LabelledModel):
    """BERT with the masked LM head (section 3.1, task 1): logits [B, S, V] or [M, V]; labels [B, S] or [M]."""

    output_class = BertKitMaskedLMOutput

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__(config)
        self.bert = self.encoder_class(config, add_pooling_layer=False)
        self.mlm_head = BertKitMaskedLMHead(config)
        self.post_init()


class BertKitForCausalLM(TiedToWordEmbeddings, LabelledModel):
    """BERT read from left to right (`config.is_decoder`), as transformers' `BertLMHeadModel`: logits [B, S, V].

    labels [B, S] or [T]: the words themselves, each predicted from the token before it; -100: not predicted. With
    `masked_positions`, each label [M] is the word that follows there.
    """

    output_class = BertKitMaskedLMOutput

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__(config)
        if not config.is_decoder:
            raise ValueError("a model that predicts the next word must not see it: set is_decoder to True")
        self.bert = self.encoder_class(config, add_pooling_layer=False)
        self.mlm_head = BertKitMaskedLMHead(config)
        self.post_init()


class BertKitForNextSentencePrediction(LabelledModel):
    """BERT with the next sentence head (section 3.1, task 2): logits [I, 2]; labels [I], 0 where B follows A."""

    output_class = NextSentencePredictorOutput

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__(config)
        self.bert = self.encoder_class(config)
        self.nsp_head = Linear(config.hidden_size, 2)
        self.post_init()

    def _score(self, encoded: Encoded, labels: Tensor | None) -> dict[str, Tensor | None]:
        logits_I2 = self.nsp_head(encoded.pooled_ID)
        return {"loss": None if labels is None else F.cross_entropy(logits_I2, labels.view(-1)), "logits": logits_I2}
