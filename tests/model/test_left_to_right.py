"""Read from left to right, no token sees a later one, and everything else is as transformers' decoder has it."""

import pytest
import torch
import transformers

from bertkit.model import (
    BertKitConfig,
    BertKitForCausalLM,
    BertKitForMaskedLM,
    BertKitForPreTraining,
    BertKitForSequenceClassification,
    BertKitForTokenClassification,
    BertKitModel,
    to_stock,
)

CLOSE = {"atol": 1e-5, "rtol": 1e-4}


@pytest.fixture
def causal_config(tiny_config) -> BertKitConfig:
    tiny_config.is_decoder, tiny_config.pooled_token = True, "last"
    return tiny_config


def build(model_class, config, implementation: str = "sdpa"):
    torch.manual_seed(0)
    config._attn_implementation = implementation
    return model_class(config).eval()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("head", [BertKitForCausalLM, BertKitForTokenClassification])
def test_a_changed_token_changes_no_score_before_it_and_some_from_it_on(
    causal_config, padded, head, implementation
) -> None:
    model = build(head, causal_config, implementation)
    before = model(**padded).logits[0]
    for place in range(7):
        changed = padded["input_ids"].clone()
        changed[0, place] = 4
        after = model(**padded | {"input_ids": changed}).logits[0]
        assert torch.equal(after[:place], before[:place])
        assert not torch.equal(after[place], before[place])


def test_a_masked_lm_sees_the_future(tiny_config, padded) -> None:
    model = build(BertKitForMaskedLM, tiny_config)
    changed = padded["input_ids"].clone()
    changed[0, 6] = 4
    before, after = model(**padded).logits[0], model(**padded | {"input_ids": changed}).logits[0]
    assert (before[:6] != after[:6]).any(-1).all()


def test_packed_and_padded_tokens_get_the_same_states_and_the_last_one_is_pooled(causal_config, padded, packed) -> None:
    model = build(BertKitModel, causal_config)
    rows, tokens = model(**padded), model(**packed)
    torch.testing.assert_close(
        tokens.last_hidden_state, rows.last_hidden_state[padded["attention_mask"].bool()], **CLOSE
    )
    torch.testing.assert_close(tokens.pooler_output, rows.pooler_output, **CLOSE)
    last_ID = tokens.last_hidden_state[torch.tensor([6, 9, 14])]
    torch.testing.assert_close(tokens.pooler_output, torch.tanh(model.pooler.dense(last_ID)), **CLOSE)


def test_padding_in_front_changes_no_score(causal_config) -> None:
    causal_config.num_labels = 2
    model = build(BertKitForSequenceClassification, causal_config)
    ids, positions = torch.tensor([[5, 6, 7]]), torch.arange(3)[None]
    in_front = {
        "input_ids": torch.tensor([[0, 0, 5, 6, 7], [5, 6, 7, 8, 9]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]]),
        "position_ids": torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]),
    }
    alone, beside = model(ids, position_ids=positions).logits[0], model(**in_front).logits[0]
    torch.testing.assert_close(beside, alone, **CLOSE)


def test_traced_with_padding_it_pools_the_last_token_too(causal_config, padded) -> None:
    model = build(BertKitForSequenceClassification, causal_config)
    program = torch.export.export(model, (), dict(padded))
    torch.testing.assert_close(program.module()(**padded).logits, model(**padded).logits, **CLOSE)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_it_is_transformers_decoder_in_logits_loss_and_gradients(causal_config, padded, implementation) -> None:
    model = build(BertKitForCausalLM, causal_config, implementation)
    stock = to_stock(model)
    assert type(stock) is transformers.BertLMHeadModel
    real = padded["attention_mask"].bool()
    labels = padded["input_ids"].masked_fill(~real, -100)
    labels[0, 3] = -100
    ours, theirs = model(**padded, labels=labels), stock(**padded, labels=labels, use_cache=False)
    torch.testing.assert_close(ours.logits[real], theirs.logits[real], **CLOSE)
    torch.testing.assert_close(ours.loss, theirs.loss, **CLOSE)
    ours.loss.backward()
    theirs.loss.backward()
    torch.testing.assert_close(
        model.bert.embeddings.word_embeddings.weight.grad,
        stock.bert.embeddings.word_embeddings.weight.grad,
        **CLOSE,
    )


def test_the_summed_loss_of_the_packed_door_is_the_mean_of_the_other_times_its_words(
    causal_config, padded, packed
) -> None:
    model = build(BertKitForCausalLM, causal_config)
    ids, bounds = packed["input_ids"], packed["cu_seqlens"].tolist()
    from_T = torch.tensor([t for t in range(15) if t + 1 not in bounds])
    summed = model(**packed, masked_positions=from_T, masked_labels=ids[from_T + 1])
    real = padded["attention_mask"].bool()
    mean = model(**padded, labels=padded["input_ids"].masked_fill(~real, -100)).loss
    torch.testing.assert_close(summed.mlm_sum / len(from_T), mean, **CLOSE)
    # Without places, packed labels are shifted within their own instance.
    torch.testing.assert_close(model(**packed, labels=ids).loss, mean, **CLOSE)


def test_labels_of_both_heads_are_the_words_that_follow_too(causal_config, padded) -> None:
    labels = padded["input_ids"].masked_fill(~padded["attention_mask"].bool(), -100)
    both, alone = build(BertKitForPreTraining, causal_config), build(BertKitForCausalLM, causal_config)
    alone.load_state_dict(both.state_dict(), strict=False)
    torch.testing.assert_close(both(**padded, labels=labels).loss, alone(**padded, labels=labels).loss, **CLOSE)


def test_next_sentences_are_judged_by_the_last_token(causal_config, packed) -> None:
    model = build(BertKitForPreTraining, causal_config)
    before = model(**packed).seq_relationship_logits
    changed = packed["input_ids"].clone()
    changed[6] = 4
    after = model(**packed | {"input_ids": changed}).seq_relationship_logits
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1:], before[1:])


def test_a_model_that_sees_the_next_word_cannot_be_asked_for_it(tiny_config) -> None:
    with pytest.raises(ValueError, match="must not see it: set is_decoder to True"):
        BertKitForCausalLM(tiny_config)
