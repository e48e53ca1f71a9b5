"""Laws of the models: two doors to one forward, padding never computed, and what transformers expects of a class."""

import pytest
import torch
import torch.nn.functional as F

import bertkit.model as bertkit_model
from bertkit.model import (
    BertKitConfig,
    BertKitForMaskedLM,
    BertKitForMultipleChoice,
    BertKitForPreTraining,
    BertKitForQuestionAnswering,
    BertKitForSequenceClassification,
    BertKitForTokenClassification,
    BertKitModel,
    pretraining_losses,
)

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
IMPLEMENTATIONS = ("eager", "sdpa")


def build(model_class: type, config: BertKitConfig, implementation: str = "sdpa"):
    torch.manual_seed(0)
    config._attn_implementation = implementation
    return model_class(config).eval()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_both_doors_give_the_same_states(tiny_config, padded, packed, implementation) -> None:
    model = build(BertKitModel, tiny_config, implementation)
    rows, tokens = model(**padded), model(**packed)
    keep = padded["attention_mask"].bool()
    torch.testing.assert_close(rows.last_hidden_state[keep], tokens.last_hidden_state, **CLOSE)
    torch.testing.assert_close(rows.pooler_output, tokens.pooler_output, **CLOSE)
    assert rows.last_hidden_state[~keep].abs().max() == 0


def test_both_doors_give_the_same_loss_and_gradients(tiny_config, padded, packed) -> None:
    model = build(BertKitForPreTraining, tiny_config)
    labels = torch.full((3, 7), -100)
    labels[0, 2], labels[1, 1], labels[2, 4] = 11, 12, 13
    next_sentence_label = torch.tensor([0, 1, 1])
    loss = model(**padded, labels=labels, next_sentence_label=next_sentence_label).loss
    loss.backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()

    batch = {"labels": torch.tensor([11, 12, 13]), "next_sentence_label": next_sentence_label}
    outputs = model(**packed, masked_positions=torch.tensor([2, 8, 14]))
    sums = pretraining_losses(outputs, batch)
    objective = sums["mlm"][0] / sums["mlm"][1] + sums["nsp"][0] / sums["nsp"][1]
    objective.backward()
    torch.testing.assert_close(objective, loss, **CLOSE)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], **CLOSE)


def test_masked_positions_choose_rows_of_all_logits(tiny_config, packed) -> None:
    model = build(BertKitForMaskedLM, tiny_config)
    positions = torch.tensor([14, 0, 8])
    everywhere = model(**packed).logits
    there = model(**packed, masked_positions=positions, labels=torch.tensor([1, -100, 3]))
    assert everywhere.shape == (15, 40)
    torch.testing.assert_close(there.logits, everywhere[positions], **CLOSE)
    torch.testing.assert_close(there.loss, F.cross_entropy(everywhere[[14, 8]], torch.tensor([1, 3])), **CLOSE)


def test_packed_heads_give_one_score_a_token_or_an_instance(tiny_config, packed) -> None:
    assert build(BertKitForSequenceClassification, tiny_config)(**packed).logits.shape == (3, 3)
    assert build(BertKitForTokenClassification, tiny_config)(**packed).logits.shape == (15, 3)
    assert build(BertKitForMultipleChoice, tiny_config)(**packed, num_choices=3).logits.shape == (1, 3)
    tiny_config.num_labels = 2
    assert build(BertKitForQuestionAnswering, tiny_config)(**packed).start_logits.shape == (15,)


def test_a_span_has_the_same_loss_by_both_doors(tiny_config, padded, packed) -> None:
    tiny_config.num_labels = 2
    model = build(BertKitForQuestionAnswering, tiny_config)
    span = {"start_positions": torch.tensor([1, 0, 99]), "end_positions": torch.tensor([5, 2, 99])}  # 99: cut off
    rows = model(**padded, **span)
    torch.testing.assert_close(rows.loss, model(**packed, **span).loss, **CLOSE)
    assert not rows.start_logits.softmax(1)[~padded["attention_mask"].bool()].any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_changing_one_instance_leaves_the_others_bit_equal(tiny_config, packed, implementation) -> None:
    model = build(BertKitModel, tiny_config, implementation)
    before = model(**packed).last_hidden_state
    packed["input_ids"] = packed["input_ids"].clone()
    packed["input_ids"][7:10] = 6
    after = model(**packed).last_hidden_state
    assert torch.equal(before[:7], after[:7])
    assert torch.equal(before[10:], after[10:])
    assert not torch.equal(before[7:10], after[7:10])


@pytest.mark.parametrize("recorded", [False, True])
def test_padding_is_never_computed(tiny_config, padded, recorded) -> None:
    model = build(BertKitForPreTraining, tiny_config)
    computed = []
    for module in (model.bert.layers[0].feed_forward.up, model.bert.layers[1].attention.qkv, model.mlm_head.decoder):
        module.register_forward_hook(lambda _, given, __: computed.append(given[0].shape[:-1]))
    model(**padded, output_hidden_states=recorded)
    assert computed == [(15,)] * 3


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nothing_in_the_packed_door_waits_for_the_device(tiny_config, packed, implementation) -> None:
    # Tensors on the meta device have no values, so reading one back raises.
    model = build(BertKitForPreTraining, tiny_config, implementation).to("meta").train()
    on_meta = {name: value.to("meta") if torch.is_tensor(value) else value for name, value in packed.items()}
    outputs = model(**on_meta, masked_positions=torch.tensor([2, 8], device="meta"))
    batch = {"labels": torch.ones(2).long().to("meta"), "next_sentence_label": torch.ones(3).long().to("meta")}
    sum(loss / count for loss, count in pretraining_losses(outputs, batch).values()).backward()
    assert outputs.prediction_logits.shape == (2, 40)


def test_one_graph_without_breaks_is_traced_from_either_door(tiny_config, padded, packed) -> None:
    model = build(BertKitForMaskedLM, tiny_config)
    traced = torch.compile(model, backend="eager", fullgraph=True)
    for batch in (padded, packed):
        torch.testing.assert_close(traced(**batch).logits, model(**batch).logits, **CLOSE)


def test_the_flattened_row_of_transformers_packs_too(tiny_config, packed) -> None:
    model = build(BertKitForMaskedLM, tiny_config)
    flattened = model(
        packed["input_ids"][None],
        token_type_ids=packed["token_type_ids"][None],
        cu_seq_lens_q=packed["cu_seqlens"],
        max_length_q=packed["max_seqlen"],
    )
    assert torch.equal(flattened.logits, model(**packed).logits[None])


def test_hidden_states_and_attentions_come_in_the_callers_form(tiny_config, padded, packed) -> None:
    model = build(BertKitModel, tiny_config, "eager")
    rows = model(**padded, output_hidden_states=True, output_attentions=True)
    tokens = model(**packed, output_hidden_states=True, output_attentions=True)
    assert [state.shape for state in rows.hidden_states] == [(3, 7, 16)] * 3
    assert [state.shape for state in tokens.hidden_states] == [(15, 16)] * 3
    assert [weights.shape for weights in rows.attentions + tokens.attentions] == [(3, 2, 7, 7)] * 4
    plain = model(**padded).last_hidden_state
    torch.testing.assert_close(rows.last_hidden_state, plain, **CLOSE)


def test_a_mask_of_ones_no_mask_and_a_square_mask_agree(tiny_config, padded) -> None:
    model = build(BertKitModel, tiny_config)
    ids = padded["input_ids"]
    expected = model(ids).last_hidden_state
    for mask in (torch.ones(3, 7), torch.ones(3, 7, 7), torch.zeros(3, 1, 7, 7), torch.ones(3, 1, 7, 7).bool()):
        torch.testing.assert_close(model(ids, attention_mask=mask).last_hidden_state, expected, **CLOSE)


def test_left_padding_pools_the_first_real_token(tiny_config, padded) -> None:
    model = build(BertKitModel, tiny_config)
    ids, positions = padded["input_ids"][1:2, :3], torch.arange(3)[None]
    expected = model(ids).pooler_output
    shifted = F.pad(ids, (2, 0)), F.pad(torch.ones(1, 3), (2, 0)), F.pad(positions, (2, 0))
    pooled = model(shifted[0], attention_mask=shifted[1], position_ids=shifted[2]).pooler_output
    torch.testing.assert_close(pooled, expected, **CLOSE)


# transformers 5.23 renames the method; the old name is the one that every version 5 has.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
def test_gradient_checkpointing_changes_no_gradient(tiny_config, padded) -> None:
    model = build(BertKitForMaskedLM, tiny_config).train()
    gradients = []
    for use_reentrant in (None, True, False):
        if use_reentrant is not None:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
        model.zero_grad()
        model(**padded, labels=padded["input_ids"]).loss.backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for again in gradients[1:]:
        assert all(torch.equal(one, other) for one, other in zip(gradients[0], again, strict=True))


def test_bfloat16_stays_near_float32(tiny_config, packed) -> None:
    model = build(BertKitForPreTraining, tiny_config)
    expected = model(**packed).prediction_logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = model(**packed).prediction_logits
    assert under_autocast.dtype == torch.bfloat16
    assert model.bfloat16()(**packed).prediction_logits.dtype == torch.bfloat16
    torch.testing.assert_close(under_autocast.float(), expected, atol=0.3, rtol=0.1)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_exported_graph_gives_the_same_outputs(tiny_config, padded, implementation) -> None:
    model = build(BertKitForMaskedLM, tiny_config, implementation)
    exported = torch.export.export(model, args=(), kwargs=padded).module()
    torch.testing.assert_close(exported(**padded).logits, model(**padded).logits, **CLOSE)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_graph_exported_for_any_shape_takes_another_one(tiny_config, implementation) -> None:
    model = build(BertKitForMaskedLM, tiny_config, implementation)
    rows, length = torch.export.Dim("rows", min=2, max=8), torch.export.Dim("length", min=4, max=16)
    small, large = (
        {"input_ids": torch.ones(shape, dtype=torch.int64), "attention_mask": torch.ones(shape, dtype=torch.int64)}
        for shape in ((3, 9), (5, 13))
    )
    large["attention_mask"][1, 7:] = 0
    shapes = {name: {0: rows, 1: length} for name in small}
    exported = torch.export.export(model, args=(), kwargs=small, dynamic_shapes=shapes, strict=False).module()
    torch.testing.assert_close(exported(**large).logits, model(**large).logits, **CLOSE)


def test_embeddings_may_be_given_instead_of_ids(tiny_config, padded, packed) -> None:
    model = build(BertKitModel, tiny_config)
    for batch in (padded, packed):
        rest = {name: value for name, value in batch.items() if name != "input_ids"}
        words = model.get_input_embeddings()(batch["input_ids"])
        given = model(inputs_embeds=words, **rest).last_hidden_state
        assert torch.equal(given, model(**batch).last_hidden_state)


def test_the_vocabulary_projection_stays_tied_through_resizing(tiny_config) -> None:
    model = build(BertKitForPreTraining, tiny_config)
    model.resize_token_embeddings(48)
    assert model.mlm_head.decoder.weight is model.get_input_embeddings().weight
    assert model.mlm_head.decoder.bias.shape == (48,)


def test_a_loss_is_the_sum_of_the_terms_with_labels(tiny_config, padded) -> None:
    model = build(BertKitForPreTraining, tiny_config)
    words, following = {"labels": padded["input_ids"]}, {"next_sentence_label": torch.tensor([0, 1, 0])}
    both = model(**padded, **words, **following).loss
    torch.testing.assert_close(both, model(**padded, **words).loss + model(**padded, **following).loss, **CLOSE)
    assert model(**padded).loss is None


def test_impossible_shapes_name_the_fix(tiny_config, padded) -> None:
    with pytest.raises(ValueError, match="hidden_size 16 is not a multiple of num_attention_heads 3"):
        BertKitModel(BertKitConfig(hidden_size=16, num_attention_heads=3))
    with pytest.raises(ValueError, match="add_cross_attention"):
        BertKitModel(BertKitConfig(is_decoder=True, add_cross_attention=True))
    with pytest.raises(ValueError, match="pooled_token 'middle' is neither"):
        BertKitModel(BertKitConfig(pooled_token="middle"))
    with pytest.raises(ValueError, match="17 tokens exceeds max_position_embeddings 16"):
        build(BertKitModel, tiny_config)(torch.ones(1, 17, dtype=torch.long))
    with pytest.raises(ValueError, match="masked_positions count packed tokens"):
        build(BertKitForMaskedLM, tiny_config)(**padded, masked_positions=torch.tensor([1]))
    with pytest.raises(ValueError, match="needs num_choices"):
        build(BertKitForMultipleChoice, tiny_config)(padded["input_ids"])


def test_the_public_names_are_sorted_and_importable() -> None:
    assert bertkit_model.__all__ == sorted(bertkit_model.__all__)
    assert all(hasattr(bertkit_model, name) for name in bertkit_model.__all__)
