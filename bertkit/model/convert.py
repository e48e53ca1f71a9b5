"""Weights and configs between bertkit and stock `bert`, both ways, without loss.

bertkit's own names are used in memory. On disk, `save_pretrained` writes stock names and `from_pretrained` reads
either, by transformers' own conversion on load, which this module teaches its table (`register_conversions`).
"""

from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import BertConfig, PreTrainedConfig, PreTrainedModel
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Concatenate, WeightConverter, WeightRenaming

from .configuration_bertkit import BertKitConfig

# Stock name -> bertkit's, applied in this order one way and in the opposite order the other.
ENCODER_NAMES = (
    ("encoder.layer", "layers"),
    ("attention.output.LayerNorm", "attention.LayerNorm"),
    ("attention.output.dense", "attention.out"),
    ("intermediate.dense", "feed_forward.up"),
    ("output.LayerNorm", "feed_forward.LayerNorm"),
    ("output.dense", "feed_forward.down"),
)
MLM_NAMES = (
    ("cls.predictions.transform.dense", "mlm_head.dense"),
    ("cls.predictions.transform.LayerNorm", "mlm_head.LayerNorm"),
    ("cls.predictions.decoder", "mlm_head.decoder"),
    # Stock BERT keeps the decoder's bias under a name of its own and ties the decoder's to it.
    ("cls.predictions.bias", "mlm_head.decoder.bias"),
)
NSP_NAMES = (("cls.seq_relationship", "nsp_head"),)
NAMES = ENCODER_NAMES + MLM_NAMES + NSP_NAMES

HEAD_NAMES = {
    "BertKitForPreTraining": MLM_NAMES + NSP_NAMES,
    "BertKitForMaskedLM": MLM_NAMES,
    "BertKitForCausalLM": MLM_NAMES,
    "BertKitForNextSentencePrediction": NSP_NAMES,
}

STOCK_QKV = ("attention.self.query", "attention.self.key", "attention.self.value")
QKV = "attention.qkv"

# Stock classes that are called otherwise than ours with another prefix.
STOCK_CLASSES = {"BertKitForCausalLM": "BertLMHeadModel"}

# Names of the first TensorFlow conversions, still met on the Hub.
LEGACY_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


def register_conversions() -> None:
    """Teach transformers' loader and saver the table of names, so every `from_pretrained` opens a stock `bert`."""
    qkv = WeightConverter(list(STOCK_QKV), QKV, operations=[Concatenate(dim=0)])
    encoder = [*_renamings(ENCODER_NAMES), qkv]
    register_checkpoint_conversion_mapping(BertKitConfig.model_type, encoder, overwrite=True)
    for class_name, names in HEAD_NAMES.items():
        register_checkpoint_conversion_mapping(class_name, _renamings(names), overwrite=True)


def from_stock_state_dict(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a stock `bert` state dict to bertkit's names and fuse queries, keys and values into one projection."""
    converted: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        for stock, ours in LEGACY_NAMES + NAMES:
            name = name.replace(stock, ours)
        converted[name] = tensor
    for query_name in [name for name in converted if STOCK_QKV[0] in name]:
        parts = [converted.pop(query_name.replace(STOCK_QKV[0], part)) for part in STOCK_QKV]
        converted[query_name.replace(STOCK_QKV[0], QKV)] = torch.cat(parts)
    return converted


def to_stock_state_dict(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename a bertkit state dict to stock `bert` names and split the fused projection: the inverse of the above."""
    converted: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        for stock, ours in reversed(NAMES):
            name = name.replace(ours, stock)
        if QKV in name:
            for part, chunk in zip(STOCK_QKV, tensor.chunk(3), strict=True):
                converted[name.replace(QKV, part)] = chunk.clone()
        else:
            converted[name] = tensor
    return converted


def from_stock_config(config: BertConfig) -> BertKitConfig:
    """Take a stock `BertConfig` as a bertkit one."""
    return BertKitConfig(**_fields(config))


def to_stock_config(config: PreTrainedConfig) -> BertConfig:
    """Give a bertkit config as a stock `BertConfig`, its architectures named after the stock classes."""
    fields = _fields(config)
    if config.architectures:
        fields["architectures"] = [stock_class_name(name) for name in config.architectures]
    # Stock BERT has neither; where the first stays it is for us, when a head is put on this encoder.
    for name, of_stock in (("pooled_token", "first"), ("bilstm", None)):
        if fields.get(name) == of_stock:
            fields.pop(name, None)
    return BertConfig(**fields)


def stock_class_name(name: str) -> str:
    """The name of the stock class beside a bertkit class: BertKitForMaskedLM -> BertForMaskedLM."""
    return STOCK_CLASSES.get(name) or name.replace("BertKit", "Bert", 1)


def own_class_name(name: str) -> str:
    """The name of the bertkit class beside a stock class: the inverse of the above; a bertkit class keeps its own."""
    own = {stock: ours for ours, stock in STOCK_CLASSES.items()}.get(name)
    if own is not None or not name.startswith("Bert") or name.startswith("BertKit"):
        return own or name
    return name.replace("Bert", "BertKit", 1)


def why_not_stock(model: PreTrainedModel) -> str | None:
    """Say why no stock class gives the logits of a model, as the end of a sentence; None where one does."""
    if model.config.model_type != BertKitConfig.model_type:
        return "transformers has no model of two LSTMs"
    if model.config.bilstm is not None:
        return "transformers has no BERT with a BiLSTM above it"
    encoder = getattr(model, model.base_model_prefix, model)
    if model.config.pooled_token != "first" and encoder.pooler is not None:
        return "its head reads the last token, which has seen all others, and that of stock BERT the first"
    return None


def to_stock(model: PreTrainedModel) -> PreTrainedModel:
    """Build the stock transformers model of the same head with the same weights, on the CPU and in the same dtype.

    Raises ValueError where no stock class gives the same logits (`why_not_stock`).
    """
    if why := why_not_stock(model):
        raise ValueError(f"{type(model).__name__} has no counterpart in transformers: {why}")
    stock_class = getattr(transformers, stock_class_name(type(model).__name__))
    config = to_stock_config(model.config)
    pooled = {"add_pooling_layer": model.pooler is not None} if stock_class is transformers.BertModel else {}
    stock: PreTrainedModel = stock_class(config, **pooled).to(dtype=model.dtype)
    state_dict = to_stock_state_dict(model.state_dict())
    if "cls.predictions.bias" in state_dict:
        state_dict["cls.predictions.decoder.bias"] = state_dict["cls.predictions.bias"]
    stock.load_state_dict(state_dict)
    stock.tie_weights()
    stock.train(model.training)
    return stock


def _renamings(names: tuple[tuple[str, str], ...]) -> list[WeightRenaming | WeightConverter]:
    return [WeightRenaming(stock, ours) for stock, ours in names]


def _fields(config: PreTrainedConfig) -> dict[str, Any]:
    fields: dict[str, Any] = config.to_dict()
    for derived in ("model_type", "transformers_version"):
        fields.pop(derived, None)
    return fields
