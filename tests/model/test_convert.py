"""Names and weights go to stock BERT and back without loss."""

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import bertkit.model
from bertkit.model import BertKitForMaskedLM, BertKitForPreTraining, BertKitModel, convert, to_stock

HEADS = sorted(name for name in bertkit.model.__all__ if name.startswith("BertKitFor") and not name.endswith("Output"))
CLASSES = ["BertKitModel", *HEADS]


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("name", CLASSES)
def test_weights_come_back_bit_equal_for_every_class(tiny_config, name) -> None:
    tiny_config.is_decoder = name.endswith("CausalLM")
    model = getattr(bertkit.model, name)(tiny_config)
    stock = to_stock(model)
    assert type(stock).__name__ == convert.stock_class_name(name)
    back = convert.from_stock_state_dict(stock.state_dict())
    assert equal(back, model.state_dict())


@pytest.mark.parametrize("name", CLASSES)
def test_a_stock_folder_opens_and_what_is_saved_keeps_its_names(tiny_config, tmp_path, name) -> None:
    tiny_config.is_decoder = name.endswith("CausalLM")
    model = getattr(bertkit.model, name)(tiny_config)
    to_stock(model).save_pretrained(tmp_path / "stock")
    opened, report = type(model).from_pretrained(tmp_path / "stock", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert opened.config.model_type == "bertkit"
    assert equal(opened.state_dict(), model.state_dict())
    opened.save_pretrained(tmp_path / "ours")
    assert equal(*(load_file(tmp_path / folder / "model.safetensors") for folder in ("stock", "ours")))


def test_a_model_never_loaded_is_saved_under_stock_names_too(tiny_config, tmp_path) -> None:
    model = BertKitForPreTraining(tiny_config)
    model.save_pretrained(tmp_path / "ours")
    to_stock(model).save_pretrained(tmp_path / "stock")
    assert equal(*(load_file(tmp_path / folder / "model.safetensors") for folder in ("stock", "ours")))


def test_a_bare_encoder_opens_under_a_head_and_a_head_as_a_bare_encoder(tiny_config, tmp_path) -> None:
    headed = BertKitForPreTraining(tiny_config)
    to_stock(headed).save_pretrained(tmp_path / "headed")
    bare = BertKitModel.from_pretrained(tmp_path / "headed")
    assert equal(bare.state_dict(), headed.bert.state_dict())
    to_stock(bare).save_pretrained(tmp_path / "bare")
    again = BertKitForPreTraining.from_pretrained(tmp_path / "bare")
    assert equal(again.bert.state_dict(), headed.bert.state_dict())


def test_names_of_the_first_tensorflow_conversions_open(tiny_config, tmp_path) -> None:
    model = BertKitForMaskedLM(tiny_config)
    stock = to_stock(model)
    stock.save_pretrained(tmp_path)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert equal(BertKitForMaskedLM.from_pretrained(tmp_path).state_dict(), model.state_dict())
    full = old | {"cls.predictions.decoder.weight": stock.cls.predictions.decoder.weight.detach()}
    assert equal(convert.from_stock_state_dict(full), model.state_dict())


def test_configs_come_back_equal(tiny_config) -> None:
    tiny_config.architectures = ["BertKitForMaskedLM"]
    stock = convert.to_stock_config(tiny_config)
    assert isinstance(stock, transformers.BertConfig)
    assert stock.architectures == ["BertForMaskedLM"]
    back = convert.from_stock_config(stock)
    fields = tiny_config.to_dict()
    assert {name: back.to_dict()[name] for name in fields if name != "architectures"} == {
        name: value for name, value in fields.items() if name != "architectures"
    }


def test_the_stock_model_keeps_dtype_mode_and_tied_weights(tiny_config) -> None:
    stock = to_stock(BertKitForMaskedLM(tiny_config).bfloat16().eval())
    assert stock.dtype == torch.bfloat16
    assert not stock.training
    assert stock.cls.predictions.decoder.weight is stock.bert.embeddings.word_embeddings.weight


def test_an_untied_projection_keeps_its_own_weights(tiny_config) -> None:
    tiny_config.tie_word_embeddings = False
    model = BertKitForMaskedLM(tiny_config)
    stock = to_stock(model)
    assert torch.equal(stock.cls.predictions.decoder.weight, model.mlm_head.decoder.weight)
    assert not torch.equal(stock.cls.predictions.decoder.weight, stock.bert.embeddings.word_embeddings.weight)
