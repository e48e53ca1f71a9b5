"""The kinds of encoder there are, by transformers' `model_type`, and the class of each for one purpose."""

from collections.abc import Mapping
from typing import Any, Final

from transformers import PreTrainedConfig, PreTrainedModel

from .configuration_bertkit import BertKitConfig

BILM: Final = "bertkit-bilm"
FAMILIES: Final = ("bert", BertKitConfig.model_type, BILM)


def class_for(model_type: str | PreTrainedConfig, wanted: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The class of a family for what the BERT class `wanted` does.

    Raises:
        ValueError: that family has none.
    """
    name = model_type if isinstance(model_type, str) else str(model_type.model_type)
    if name in ("bert", BertKitConfig.model_type):
        return wanted
    raise ValueError(f"there is no {wanted.__name__} of the family {name}")


def config_from(values: Mapping[str, Any]) -> PreTrainedConfig:
    """The config of the family that `values` name as their `model_type`, a BERT where they name none."""
    return BertKitConfig(**{name: value for name, value in values.items() if name != "model_type"})
