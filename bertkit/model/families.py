"""The kinds of encoder there are, by transformers' `model_type`, and the class of each for one purpose."""

from collections.abc import Mapping
from typing import Any, Final

from transformers import PreTrainedConfig, PreTrainedModel

from .configuration_bertkit import BertKitConfig
from .configuration_bilm import BiLMConfig
from .modeling_bertkit import BertKitForPreTraining, BertKitModel
from .modeling_bilm import (
    BiLMForMultipleChoice,
    BiLMForPreTraining,
    BiLMForQuestionAnswering,
    BiLMForSequenceClassification,
    BiLMForTokenClassification,
    BiLMModel,
)
from .modeling_heads import (
    BertKitForMultipleChoice,
    BertKitForQuestionAnswering,
    BertKitForSequenceClassification,
    BertKitForTokenClassification,
)

BILM: Final = BiLMConfig.model_type
FAMILIES: Final = ("bert", BertKitConfig.model_type, BILM)

# A biLM masks nothing and pairs nothing, so it has no counterpart of the classes that do.
_TWINS: Final[Mapping[type[PreTrainedModel], type[PreTrainedModel]]] = {
    BertKitModel: BiLMModel,
    BertKitForPreTraining: BiLMForPreTraining,
    BertKitForSequenceClassification: BiLMForSequenceClassification,
    BertKitForTokenClassification: BiLMForTokenClassification,
    BertKitForQuestionAnswering: BiLMForQuestionAnswering,
    BertKitForMultipleChoice: BiLMForMultipleChoice,
}
# What a BERT's shape says of attention, which a biLM has none of.
_OF_ATTENTION: Final = ("num_attention_heads", "attention_probs_dropout_prob", "is_decoder", "pooled_token")


def class_for(model_type: str | PreTrainedConfig, wanted: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The class of a family for what the BERT class `wanted` does.

    Raises:
        ValueError: that family has none.
    """
    name = model_type if isinstance(model_type, str) else str(model_type.model_type)
    if name in ("bert", BertKitConfig.model_type):
        return wanted
    if name == BILM and wanted in _TWINS:
        return _TWINS[wanted]
    raise ValueError(f"there is no {wanted.__name__} of the family {name}")


def config_from(values: Mapping[str, Any]) -> PreTrainedConfig:
    """The config of the family that `values` name as their `model_type`, a BERT where they name none."""
    fields = {name: value for name, value in values.items() if name != "model_type"}
    if values.get("model_type") != BILM:
        return BertKitConfig(**fields)
    return BiLMConfig(**{name: value for name, value in fields.items() if name not in _OF_ATTENTION})
