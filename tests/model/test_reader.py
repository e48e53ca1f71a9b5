"""Laws of the BiLSTM between encoder and classifier."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from bertkit.model import (
    BertKitConfig,
    BertKitForMultipleChoice,
    BertKitForQuestionAnswering,
    BertKitForSequenceClassification,
    BertKitForTokenClassification,
    BertKitModel,
)
from bertkit.model.layer_mix import LAYER_CHOICES, mix_layers
from bertkit.model.packing import packed_layout
from bertkit.model.reader import BiLSTMReader

CLOSE = {"rtol": 1e-5, "atol": 1e-5}
BOUNDS = torch.tensor([0, 7, 10, 15], dtype=torch.int32)


def reader_of(layers="weighted-all", **settings):
    torch.manual_seed(0)
    bilstm = {"layers": layers, "num_layers": 2, "size": 5, **settings}
    return BiLSTMReader(BertKitConfig(hidden_size=4, num_attention_heads=2, num_hidden_layers=4, bilstm=bilstm))


def states():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(15, 4, generator=generator) for _ in range(5)]


def layout():
    return packed_layout(BOUNDS, 7, 15)


@pytest.mark.parametrize("choice", LAYER_CHOICES)
def test_it_is_torchs_bilstm_over_the_chosen_layers_of_each_instance(choice) -> None:
    reader = reader_of(choice)
    mixed = mix_layers(states(), choice)
    torchs = nn.LSTM(mixed.shape[1], 5, num_layers=2, bidirectional=True)
    for layer in range(2):
        for suffix, lstm in (("", reader.forwards[layer]), ("_reverse", reader.backwards[layer])):
            for name, parameter in lstm.named_parameters():
                getattr(torchs, name.replace("l0", f"l{layer}") + suffix).data.copy_(parameter.data)
    hidden_TW, pooled_IW = reader(states(), layout())
    assert hidden_TW.shape == (15, reader.width) == (15, 10)
    for number, (start, end) in enumerate(pairwise(BOUNDS.tolist())):
        alone = torchs(mixed[start:end])[0]
        torch.testing.assert_close(hidden_TW[start:end], alone, **CLOSE)
        torch.testing.assert_close(pooled_IW[number], torch.cat([alone[-1, :5], alone[0, 5:]]), **CLOSE)


def test_equal_weights_give_the_mean_of_the_layers_times_the_scale() -> None:
    mix = reader_of().mix
    torch.testing.assert_close(mix(states()), mix_layers(states(), "weighted-all"))
    mix.scale.data.fill_(3.0)
    torch.testing.assert_close(mix(states()), 3 * torch.stack(states()[1:]).mean(0))


def test_weights_are_shares_of_the_layers_without_the_embeddings() -> None:
    mix = reader_of().mix
    mix.weights_K.data.copy_(torch.tensor([1.0, 3.0, 2.0, 2.0]).log())
    expected = sum(share * state for share, state in zip((1 / 8, 3 / 8, 2 / 8, 2 / 8), states()[1:], strict=True))
    torch.testing.assert_close(mix(states()), expected, **CLOSE)


def test_only_weighted_layers_have_weights() -> None:
    for choice in LAYER_CHOICES:
        reader = reader_of(choice)
        assert len(list(reader.mix.parameters())) == (2 if choice == "weighted-all" else 0)


@pytest.mark.parametrize("choice", LAYER_CHOICES)
def test_gradients_reach_every_weight_also_in_bfloat16(choice) -> None:
    reader = reader_of(choice, dropout=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden_TW, pooled_IW = reader(states(), layout())
    (hidden_TW.float().square().sum() + pooled_IW.float().sum()).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in reader.parameters())


def test_dropout_is_between_its_layers_while_it_is_trained() -> None:
    one, two = reader_of(num_layers=1, dropout=0.5), reader_of(dropout=0.5)
    assert torch.equal(one(states(), layout())[0], one(states(), layout())[0])
    assert not torch.equal(two(states(), layout())[0], two(states(), layout())[0])
    two.eval()
    assert torch.equal(two(states(), layout())[0], two(states(), layout())[0])


def test_settings_that_do_not_exist_are_named() -> None:
    with pytest.raises(ValueError, match="bilstm has no 'units': it has layers, num_layers, size, dropout"):
        reader_of(units=3)
    with pytest.raises(ValueError, match="bilstm layers 'first' is none of embeddings, last"):
        reader_of("first")


HEADS = {
    BertKitForSequenceClassification: (3, 3),
    BertKitForTokenClassification: (15, 3),
    BertKitForMultipleChoice: (1, 3),
    BertKitForQuestionAnswering: (15,),
}


@pytest.mark.parametrize(("head", "shape"), HEADS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_head_above_it_gives_the_same_by_both_doors_and_after_saving(
    tiny_config, padded, packed, tmp_path, head, shape
) -> None:
    tiny_config.bilstm = {"layers": "weighted-all", "num_layers": 2, "size": 6}
    tiny_config.num_labels = 2 if head is BertKitForQuestionAnswering else 3
    model = head(tiny_config).eval()
    model.reader.mix.weights_K.data.copy_(torch.tensor([0.5, -0.5]))
    choices = {"num_choices": 3} if head is BertKitForMultipleChoice else {}
    tokens, rows = model(**packed, **choices)[0], model(**padded, **choices)[0]
    assert model.bert.pooler is None
    assert tokens.shape == shape
    keep = padded["attention_mask"].bool() if shape[0] == 15 else ...
    torch.testing.assert_close(rows[keep], tokens, **CLOSE)
    model.save_pretrained(tmp_path)
    again = head.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(**packed, **choices)[0], tokens)


def test_a_reader_on_a_pretrained_encoder_begins_with_every_layer_alike(tiny_config, tmp_path) -> None:
    BertKitModel(tiny_config).save_pretrained(tmp_path)
    for attempt in range(3):
        model = BertKitForTokenClassification.from_pretrained(tmp_path, bilstm={"size": 8 + attempt})
        assert model.reader.mix.weights_K.tolist() == [0, 0]
        assert model.reader.mix.scale.item() == 1


def test_a_head_above_a_reader_gives_hidden_states_to_who_asks_for_them_only(tiny_config) -> None:
    tiny_config.bilstm = {"layers": "weighted-all", "size": 4}
    model = BertKitForTokenClassification(tiny_config).eval()
    ids = torch.tensor([[5, 6, 7]])
    assert model(ids).hidden_states is None
    assert len(model(ids, output_hidden_states=True).hidden_states) == 3
