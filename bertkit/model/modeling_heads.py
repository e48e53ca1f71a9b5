"""The heads of fine-tuning (Devlin et al. 2019, section 3.2 and figure 4), on the encoder or on a BiLSTM above it.

Shape letters: B rows, S row length, T packed tokens, I instances, D hidden, W what a head reads, C classes.
"""

# mypy: disallow-untyped-decorators=False
# Annotations must stay objects, not strings: transformers reads them to learn which outputs a forward can record.
from dataclasses import replace
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import (
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from .configuration_bertkit import BertKitConfig
from .dropout import Dropout
from .kwargs import BertKitKwargs
from .linear import Linear
from .losses import problem_type_of, sequence_loss, span_loss
from .modeling_bertkit import BertKitPreTrainedModel, LabelledModel
from .outputs import Encoded
from .reader import BiLSTMReader, LayerMix
from .recurrent import reset_lstm


class _ReadingModel(BertKitPreTrainedModel):
    """A model whose head reads the encoder's last layer or, as `config.bilstm` says, a BiLSTM's over some layers."""

    reader: BiLSTMReader | None

    def _build_encoder(self, config: BertKitConfig, *, pools: bool) -> int:
        """Build what stands below the head; returns W, how many numbers the head reads a token or an instance."""
        self.reader = None if config.bilstm is None else BiLSTMReader(config)
        self.bert = self.encoder_class(config, add_pooling_layer=pools and self.reader is None)
        return config.hidden_size if self.reader is None else self.reader.width

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LayerMix):
            module.reset_parameters()
        elif isinstance(module, nn.LSTM):
            reset_lstm(module)

    def _encode(self, *args: Any, **kwargs: Any) -> Encoded:
        if self.reader is None:
            return super()._encode(*args, **kwargs)
        is_wanted = kwargs.get("output_hidden_states", self.config.output_hidden_states)
        encoded = super()._encode(*args, **kwargs | {"output_hidden_states": True})
        states = [encoded.layout.inward(state) for state in encoded.outputs.hidden_states or ()]
        hidden_TW, pooled_IW = self.reader(states, encoded.layout)
        if not is_wanted:
            encoded.outputs.hidden_states = None
        return replace(encoded, hidden_TD=hidden_TW, pooled_ID=pooled_IW)


class BertKitForSequenceClassification(_ReadingModel, LabelledModel):
    """BERT with a classifier or regressor on the pooled vector (section 4.1): logits [I, C].

    labels: [I] of ids or of numbers, or [I, C], as `config.problem_type` says or, if it is None, their type.
    """

    output_class = SequenceClassifierOutput

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__(config)
        self.num_labels = _num_labels(config)
        width = self._build_encoder(config, pools=True)
        self.dropout = Dropout(config.head_dropout)
        self.classifier = Linear(width, self.num_labels)
        self.post_init()

    def _score(self, encoded: Encoded, labels: Tensor | None) -> dict[str, Tensor | None]:
        logits_IC = self.classifier(self.dropout(encoded.pooled_ID))
        if labels is None:
            return {"logits": logits_IC}
        if self.config.problem_type is None:
            self.config.problem_type = problem_type_of(self.num_labels, labels)
        return {"loss": sequence_loss(logits_IC, labels, self.config.problem_type), "logits": logits_IC}


class BertKitForTokenClassification(_ReadingModel, LabelledModel):
    """BERT with a classifier on every token (section 5.3): logits [B, S, C] or [T, C]; labels [B, S] or [T]."""

    output_class = TokenClassifierOutput

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__(config)
        self.num_labels = _num_labels(config)
        width = self._build_encoder(config, pools=False)
        self.dropout = Dropout(config.head_dropout)
        self.classifier = Linear(width, self.num_labels)
        self.post_init()

    def _score(self, encoded: Encoded, labels: Tensor | None) -> dict[str, Tensor | None]:
        logits_TC = self.classifier(self.dropout(encoded.hidden_TD))
        loss = None if labels is None else F.cross_entropy(logits_TC, encoded.layout.inward(labels))
        return {"loss": loss, "logits": encoded.layout.outward(logits_TC)}


class BertKitForQuestionAnswering(_ReadingModel):
    """BERT with the scores of a span's start and end at every token (section 4.2)."""

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__(config)
        self.num_labels = _num_labels(config)
        width = self._build_encoder(config, pools=False)
        self.qa_outputs = Linear(width, self.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        **kwargs: Unpack[BertKitKwargs],
    ) -> tuple[Tensor, ...] | QuestionAnsweringModelOutput:
        """Score starts and ends [B, S], or [T] packed; positions [I] count within their row or instance."""
        encoded = self._encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        start_T, end_T = self.qa_outputs(encoded.hidden_TD).unbind(-1)
        lowest = torch.finfo(start_T.dtype).min
        loss = None
        if start_positions is not None and end_positions is not None:
            start_loss = span_loss(encoded.layout.to_rows(start_T, fill=lowest), start_positions)
            loss = (start_loss + span_loss(encoded.layout.to_rows(end_T, fill=lowest), end_positions)) / 2
        return QuestionAnsweringModelOutput(
            loss=loss,
            start_logits=encoded.layout.outward(start_T, fill=lowest),
            end_logits=encoded.layout.outward(end_T, fill=lowest),
            **encoded.recorded(),
        )


class BertKitForMultipleChoice(_ReadingModel):
    """BERT with one score for each pairing of a context and a choice (section 4.4)."""

    def __init__(self, config: BertKitConfig) -> None:
        super().__init__(config)
        width = self._build_encoder(config, pools=True)
        self.dropout = Dropout(config.head_dropout)
        self.classifier = Linear(width, 1)
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
        num_choices: int | None = None,
        **kwargs: Unpack[BertKitKwargs],
    ) -> tuple[Tensor, ...] | MultipleChoiceModelOutput:
        """Score the choices of [B, choices, S], or of packed [T] by `num_choices`; labels [B]: the right one."""
        if num_choices is None:
            num_choices = _num_choices(input_ids, inputs_embeds)
        input_ids, attention_mask = _flat_choices(input_ids, 3), _flat_choices(attention_mask, 3)
        token_type_ids, position_ids = _flat_choices(token_type_ids, 3), _flat_choices(position_ids, 3)
        inputs_embeds = _flat_choices(inputs_embeds, 4)
        encoded = self._encode(input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds, **kwargs)
        logits = self.classifier(self.dropout(encoded.pooled_ID)).view(-1, num_choices)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return MultipleChoiceModelOutput(loss=loss, logits=logits, **encoded.recorded())


def _num_labels(config: BertKitConfig) -> int:
    # transformers allows a config without labels; two are its default.
    return config.num_labels or 2


def _num_choices(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> int:
    if input_ids is not None and input_ids.dim() == 3:
        return input_ids.shape[1]
    if inputs_embeds is not None and inputs_embeds.dim() == 4:
        return inputs_embeds.shape[1]
    raise ValueError("packed multiple choice needs num_choices, the number of choices that follow one another")


def _flat_choices(given: Tensor | None, rank: int) -> Tensor | None:
    return given.flatten(0, 1) if given is not None and given.dim() == rank else given
