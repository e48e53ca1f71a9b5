"""Laws of the ELMo-style biLM: its directions never mix, no word helps to predict itself, two doors to one forward."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bertkit.model import (
    BertKitForMaskedLM,
    BertKitForMultipleChoice,
    BertKitForPreTraining,
    BertKitForQuestionAnswering,
    BertKitForSequenceClassification,
    BertKitForTokenClassification,
    BertKitModel,
    BiLMConfig,
    BiLMForMultipleChoice,
    BiLMForPreTraining,
    BiLMForQuestionAnswering,
    BiLMForSequenceClassification,
    BiLMForTokenClassification,
    BiLMModel,
    pretraining_correct,
    pretraining_losses,
)
from bertkit.model.families import BILM, FAMILIES, class_for, config_from

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
HALF = 8
# Every token that has one on either side.
INNER = torch.tensor([1, 2, 3, 4, 5, 8, 11, 12, 13])


@pytest.fixture
def bilm_config() -> BiLMConfig:
    return BiLMConfig(
        vocab_size=40, hidden_size=2 * HALF, num_hidden_layers=3, intermediate_size=24, hidden_dropout_prob=0.0,
        max_position_embeddings=16, num_labels=3, initializer_range=0.5,
    )  # fmt: skip


def build(model_class, config):
    torch.manual_seed(0)
    return model_class(config).eval()


def changed_at(packed, place):
    ids = packed["input_ids"].clone()
    ids[place] = ids[place] % 30 + 7
    return packed | {"input_ids": ids}


def test_a_direction_sees_the_words_on_its_own_side_only(bilm_config, packed) -> None:
    model = build(BiLMModel, bilm_config)
    before = model(**packed, output_hidden_states=True).hidden_states
    after = model(**changed_at(packed, 3), output_hidden_states=True).hidden_states
    for one, other in zip(before[1:], after[1:], strict=True):
        assert torch.equal(one[:3, :HALF], other[:3, :HALF])
        assert torch.equal(one[4:, HALF:], other[4:, HALF:])
        assert torch.equal(one[7:], other[7:])
        assert not torch.isclose(one[3:7, :HALF], other[3:7, :HALF]).all(1).any()
        assert not torch.isclose(one[:4, HALF:], other[:4, HALF:]).all(1).any()


def test_what_a_word_is_predicted_from_has_not_seen_it(bilm_config, packed) -> None:
    model, read = build(BiLMForPreTraining, bilm_config), []
    model.mlm_head.dense.register_forward_hook(lambda _, given, __: read.append(given[0].detach()))
    for place in INNER.tolist():
        read.clear()
        for batch in (packed, changed_at(packed, place)):
            model(**batch, masked_positions=torch.tensor([place]))
        one, other = read[:2], read[2:]
        assert all(torch.equal(*states) for states in zip(one, other, strict=True))
        assert not torch.equal(one[0], one[1])


def test_every_other_word_of_the_text_is_seen_by_one_direction(bilm_config, packed) -> None:
    model = build(BiLMForPreTraining, bilm_config)
    expected = model(**packed, masked_positions=torch.tensor([3]))
    for place in (0, 1, 2, 4, 5, 6):
        found = model(**changed_at(packed, place), masked_positions=torch.tensor([3]))
        forward_differs = not torch.equal(found.forward_logits, expected.forward_logits)
        backward_differs = not torch.equal(found.backward_logits, expected.backward_logits)
        assert (forward_differs, backward_differs) == (place < 3, place > 3)


def test_the_first_layer_reads_whole_embeddings_and_the_others_add_to_their_own_half(bilm_config, packed) -> None:
    model = build(BiLMModel, bilm_config)
    states = model(**packed, output_hidden_states=True).hidden_states
    own = [state[:7] for state in states]  # of the first instance
    for number, layer in enumerate(model.layers):
        below = own[number]
        left, right = (below, below) if number == 0 else (below[:, :HALF], below[:, HALF:])
        read = torch.cat([cells(layer.forwards, left), cells(layer.backwards, right.flip(0)).flip(0)], 1)
        torch.testing.assert_close(own[number + 1], read if number == 0 else below + read, **CLOSE)


def cells(lstm, inputs):
    """A projected LSTM written out (Sak et al. 2014)."""
    hidden, cell, outputs = torch.zeros(lstm.proj_size), torch.zeros(lstm.hidden_size), []
    for step in inputs:
        gates = lstm.weight_ih_l0 @ step + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ hidden + lstm.bias_hh_l0
        enter, forget, new, leave = gates.chunk(4)
        cell = forget.sigmoid() * cell + enter.sigmoid() * new.tanh()
        hidden = lstm.weight_hr_l0 @ (leave.sigmoid() * cell.tanh())
        outputs.append(hidden)
    return torch.stack(outputs)


def test_pooled_is_what_each_direction_has_in_the_end(bilm_config, packed) -> None:
    model = build(BiLMModel, bilm_config)
    outputs = model(**packed)
    states = outputs.last_hidden_state
    ends = torch.cat([states[[6, 9, 14], :HALF], states[[0, 7, 10], HALF:]], 1)
    torch.testing.assert_close(outputs.pooler_output, model.pooler.dense(ends).tanh(), **CLOSE)


def test_both_doors_give_the_same_states(bilm_config, padded, packed) -> None:
    model = build(BiLMModel, bilm_config)
    keep = padded["attention_mask"].bool()
    for recorded in (False, True):
        rows = model(**padded, output_hidden_states=recorded)
        tokens = model(**packed, output_hidden_states=recorded)
        torch.testing.assert_close(rows.last_hidden_state[keep], tokens.last_hidden_state, **CLOSE)
        torch.testing.assert_close(rows.pooler_output, tokens.pooler_output, **CLOSE)
        assert rows.last_hidden_state[~keep].abs().max() == 0
    assert [state.shape for state in rows.hidden_states] == [(3, 7, 16)] * 4
    assert [state.shape for state in tokens.hidden_states] == [(15, 16)] * 4
    assert rows.attentions is None


@pytest.mark.parametrize("sides", [(0, 3), (3, 0), (2, 1)], ids=["right", "left", "both"])
def test_padding_changes_nothing(bilm_config, padded, sides) -> None:
    model = build(BiLMForPreTraining, bilm_config)
    labels = padded["input_ids"].masked_fill(padded["attention_mask"] == 0, -100)
    expected = model(**padded, labels=labels)
    wider = {name: F.pad(rows, sides) for name, rows in padded.items()}
    found = model(**wider, labels=F.pad(labels, sides, value=-100))
    torch.testing.assert_close(found.loss, expected.loss, **CLOSE)
    own = slice(sides[0], sides[0] + 7)
    torch.testing.assert_close(found.forward_logits[:, own], expected.forward_logits, **CLOSE)
    torch.testing.assert_close(found.backward_logits[:, own], expected.backward_logits, **CLOSE)


def test_both_doors_give_the_same_loss_and_gradients(bilm_config, padded, packed) -> None:
    model = build(BiLMForPreTraining, bilm_config)
    words = packed["input_ids"][INNER]
    everywhere = torch.full((15,), -100).index_put((INNER,), words)
    labels = torch.full((3, 7), -100).masked_scatter(padded["attention_mask"].bool(), everywhere)
    places = {"masked_positions": INNER}
    found = []
    for door in ("rows", "tokens", "places", "sums"):
        model.zero_grad()
        if door == "sums":
            outputs = model(**packed, **places, masked_labels=words)
            total, count = pretraining_losses(outputs, {"lm_labels": words})["lm"]
            loss = total / count
        elif door == "rows":
            loss = model(**padded, labels=labels).loss
        else:
            loss = model(**packed, **({"labels": everywhere} if door == "tokens" else places | {"labels": words})).loss
        loss.backward()
        found.append([loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    for values in zip(*found, strict=True):
        for value in values[1:]:
            torch.testing.assert_close(value, values[0], **CLOSE)
    assert all(gradient.abs().sum() > 0 for gradient in found[0])


def test_right_guesses_are_the_mean_of_both_directions(bilm_config, packed) -> None:
    model = build(BiLMForPreTraining, bilm_config)
    logits = model(**packed, masked_positions=INNER)
    words = logits.forward_logits.argmax(1)
    by_both = (words == logits.backward_logits.argmax(1)).sum()
    outputs = model(**packed, masked_positions=INNER, masked_labels=words)
    correct, count = pretraining_correct(outputs, {"lm_labels": words})["lm"]
    assert (correct.item(), count.item()) == ((9 + by_both.item()) / 2, 9)
    assert outputs.forward_logits is None


def test_a_first_word_has_no_forward_scores_and_a_last_one_no_backward_ones(bilm_config, packed) -> None:
    outputs = build(BiLMForPreTraining, bilm_config)(**packed)
    assert outputs.forward_logits.shape == outputs.backward_logits.shape == (15, 40)
    assert outputs.forward_logits.any(1).logical_not().nonzero().flatten().tolist() == [0, 7, 10]
    assert outputs.backward_logits.any(1).logical_not().nonzero().flatten().tolist() == [6, 9, 14]


def test_it_learns_a_pattern_that_only_neighbours_tell(bilm_config) -> None:
    # After each letter comes its successor, so either neighbour tells the word.
    generator = torch.Generator().manual_seed(0)
    model = build(BiLMForPreTraining, bilm_config).train()
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for _ in range(60):
        ids = (torch.randint(0, 30, (8, 1), generator=generator) + torch.arange(8)) % 30 + 5
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


def test_bfloat16_stays_near_float32_and_trains_every_weight(bilm_config, packed) -> None:
    model = build(BiLMForPreTraining, bilm_config)
    batch = packed | {"masked_positions": INNER, "masked_labels": packed["input_ids"][INNER]}
    expected = model(**batch).mlm_sum
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(**batch).mlm_sum
    found.backward()
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.1)
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert model.bfloat16()(**packed).forward_logits.dtype == torch.bfloat16


# transformers 5.23 renames the method; the old name is the one that every version 5 has.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_gradient_checkpointing_changes_no_gradient(bilm_config, padded) -> None:
    model = build(BiLMForPreTraining, bilm_config).train()
    gradients = []
    for use_reentrant in (None, True, False):
        if use_reentrant is not None:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        model.zero_grad()
        model(**padded, labels=padded["input_ids"]).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for again in gradients[1:]:
        assert all(torch.equal(one, other) for one, other in zip(gradients[0], again, strict=True))


def test_nothing_in_the_packed_door_waits_for_the_device(bilm_config, packed) -> None:
    # Tensors on the meta device have no values, so reading one back raises.
    model = build(BiLMForPreTraining, bilm_config).to("meta").train()
    on_meta = {name: value.to("meta") if torch.is_tensor(value) else value for name, value in packed.items()}
    outputs = model(**on_meta, masked_positions=torch.tensor([2, 8], device="meta"))
    assert outputs.backward_logits.shape == (2, 40)


# torch's own nn.LSTM looks at its weights while it is traced.
@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")
@pytest.mark.parametrize("sides", [(0, 0), (2, 0)], ids=["right", "left too"])
def test_an_exported_graph_gives_the_same_outputs(bilm_config, padded, sides) -> None:
    model = build(BiLMForPreTraining, bilm_config)
    given = {name: F.pad(rows, sides) for name, rows in padded.items()}
    exported = torch.export.export(model, args=(), kwargs=given).module()
    found, expected = exported(**given), model(**given)
    torch.testing.assert_close(found.forward_logits, expected.forward_logits, **CLOSE)
    torch.testing.assert_close(found.backward_logits, expected.backward_logits, **CLOSE)


def test_embeddings_may_be_given_instead_of_ids(bilm_config, padded, packed) -> None:
    model = build(BiLMModel, bilm_config)
    for batch in (padded, packed):
        rest = {name: value for name, value in batch.items() if name != "input_ids"}
        words = model.get_input_embeddings()(batch["input_ids"])
        assert torch.equal(model(inputs_embeds=words, **rest)[0], model(**batch)[0])


def test_forget_gates_begin_open_in_every_lstm(bilm_config) -> None:
    bilm_config.bilstm = {"size": 6}
    model = build(BiLMForTokenClassification, bilm_config)
    lstms = [module for module in model.modules() if isinstance(module, nn.LSTM)]
    assert len(lstms) == 2 * 3 + 2 * 2
    for lstm in lstms:
        gates = (lstm.bias_ih_l0 + lstm.bias_hh_l0).view(4, -1)
        assert torch.equal(gates, torch.tensor([0.0, 1.0, 0.0, 0.0])[:, None].expand_as(gates))


def test_impossible_shapes_name_the_fix() -> None:
    with pytest.raises(ValueError, match="hidden_size 15 is odd"):
        BiLMModel(BiLMConfig(hidden_size=15))
    with pytest.raises(ValueError, match="intermediate_size 8 is projected to 8, half of hidden_size: raise the first"):
        BiLMModel(BiLMConfig(hidden_size=16, intermediate_size=8))


TWINS = {
    BertKitModel: BiLMModel,
    BertKitForPreTraining: BiLMForPreTraining,
    BertKitForSequenceClassification: BiLMForSequenceClassification,
    BertKitForTokenClassification: BiLMForTokenClassification,
    BertKitForQuestionAnswering: BiLMForQuestionAnswering,
    BertKitForMultipleChoice: BiLMForMultipleChoice,
}


def test_a_family_gives_its_class_for_each_purpose(bilm_config, tiny_config) -> None:
    assert FAMILIES == ("bert", "bertkit", BILM)
    for wanted, twin in TWINS.items():
        assert class_for(bilm_config, wanted) is class_for(BILM, wanted) is twin
        assert class_for(tiny_config, wanted) is class_for("bert", wanted) is wanted
    with pytest.raises(ValueError, match="there is no BertKitForMaskedLM of the family bertkit-bilm"):
        class_for(BILM, BertKitForMaskedLM)
    with pytest.raises(ValueError, match="there is no BertKitModel of the family gpt2"):
        class_for("gpt2", BertKitModel)


def test_a_config_is_of_the_family_it_names_without_what_only_attention_has() -> None:
    shape = {"hidden_size": 16, "num_attention_heads": 2, "attention_probs_dropout_prob": 0.0}
    assert type(config_from(shape)).model_type == "bertkit"
    bilm = config_from(shape | {"model_type": BILM})
    assert isinstance(bilm, BiLMConfig)
    assert bilm.hidden_size == 16
    assert set(shape) & set(bilm.to_dict()) == {"hidden_size"}


def test_an_lstm_is_told_of_padding_only() -> None:
    model = BiLMModel(BiLMConfig(vocab_size=40, hidden_size=8, num_hidden_layers=1, intermediate_size=12))
    with pytest.raises(ValueError, match="cannot be told who sees whom"):
        model(torch.ones(1, 3, dtype=torch.long), attention_mask=torch.ones(1, 3, 3))
