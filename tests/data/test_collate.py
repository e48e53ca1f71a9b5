"""Instances become batches: packed and padded say the same."""

import numpy as np
import pytest
import torch

from bertkit.data.collate import DataCollatorForPretraining, pack_rows, pad_rows
from bertkit.data.instances import PairRule
from bertkit.data.loader import draw_epoch


@pytest.fixture(scope="module")
def instances(store):
    drawn = draw_epoch(store.split("train"), store.vocabulary, PairRule(max_seq_length=48))
    return [drawn[place] for place in range(8)]


def test_rows_are_packed_end_to_end_with_positions_that_start_again():
    packed = pack_rows([np.array([2, 7, 3]), np.array([2, 8, 9, 3])], [np.zeros(3), np.array([0, 0, 1, 1])])
    assert packed["input_ids"].tolist() == [2, 7, 3, 2, 8, 9, 3]
    assert packed["token_type_ids"].tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert packed["position_ids"].tolist() == [0, 1, 2, 0, 1, 2, 3]
    assert packed["cu_seqlens"].tolist() == [0, 3, 7]
    assert packed["cu_seqlens"].dtype == torch.int32
    assert packed["max_seqlen"] == 4


def test_rows_are_padded_to_the_longest_or_to_a_multiple():
    rows, types = [np.array([2, 7, 3]), np.array([2, 8, 9, 9, 3])], [np.zeros(3), np.ones(5)]
    padded = pad_rows(rows, types, pad_id=0)
    assert padded["input_ids"].tolist() == [[2, 7, 3, 0, 0], [2, 8, 9, 9, 3]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert pad_rows(rows, types, pad_id=0, multiple_of=8)["input_ids"].shape == (2, 8)


def test_packed_and_padded_hold_the_same_tokens_masks_and_labels(store, instances):
    packed = DataCollatorForPretraining(store.vocabulary, packed=True)(instances)
    padded = DataCollatorForPretraining(store.vocabulary)(instances)
    real = padded["attention_mask"].bool()
    assert torch.equal(padded["input_ids"][real], packed["input_ids"])
    assert torch.equal(padded["token_type_ids"][real], packed["token_type_ids"])
    assert torch.equal(padded["labels"][padded["labels"] != -100], packed["labels"])
    labels_T = padded["labels"][real]
    assert torch.equal((labels_T != -100).nonzero()[:, 0], packed["masked_positions"])
    assert torch.equal(padded["next_sentence_label"], packed["next_sentence_label"])


def test_an_instance_with_a_key_is_masked_the_same_in_any_batch(store, instances):
    collate = DataCollatorForPretraining(store.vocabulary)
    alone, together = collate(instances[3:4]), collate(instances)
    length = int(alone["attention_mask"].sum())
    assert torch.equal(alone["input_ids"][0], together["input_ids"][3, :length])


def test_without_keys_masks_are_new_every_time_and_follow_the_seed(store, instances):
    bare = [{name: value for name, value in each.items() if name != "key"} for each in instances]
    collate = DataCollatorForPretraining(store.vocabulary, seed=5)
    first, second = collate(bare), collate(bare)
    assert not torch.equal(first["labels"], second["labels"])
    assert torch.equal(first["labels"], DataCollatorForPretraining(store.vocabulary, seed=5)(bare)["labels"])


def test_whole_words_are_masked_together(store):
    vocabulary = store.vocabulary
    ids = [vocabulary.cls_id, *range(20, 60), vocabulary.sep_id]
    collate = DataCollatorForPretraining(
        vocabulary, whole_word=True, mlm_probability=0.5, mask_share=1.0, random_share=0.0
    )
    changed = (collate([{"input_ids": ids}])["labels"][0] != -100).numpy()
    continues = vocabulary.is_continuation[ids]
    assert continues.any()
    assert (changed[1:][continues[1:]] == changed[:-1][continues[1:]]).all()


def test_a_transformers_tokenizer_makes_a_collator(store, instances):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(store.tokenizer_path)
    batch = DataCollatorForPretraining.from_tokenizer(tokenizer)(instances)
    expected = DataCollatorForPretraining(store.vocabulary)(instances)
    assert torch.equal(batch["input_ids"], expected["input_ids"])


def test_without_next_sentence_prediction_there_is_no_label(store):
    drawn = draw_epoch(store.split("train"), store.vocabulary, PairRule(max_seq_length=48, next_sentence="off"))
    batch = DataCollatorForPretraining(store.vocabulary, packed=True)([drawn[0], drawn[1]])
    assert "next_sentence_label" not in batch
    assert not batch["token_type_ids"].any()


@pytest.mark.parametrize(("predicts", "read_at"), [("next", -1), ("neighbours", 0)])
def test_what_is_not_masked_is_predicted_word_by_word_and_special_tokens_never(store, instances, predicts, read_at):
    packed = DataCollatorForPretraining(store.vocabulary, packed=True, predicts=predicts)(instances)
    ids_T = packed["input_ids"]
    assert ids_T.tolist() == np.concatenate([instance["input_ids"] for instance in instances]).tolist()
    words = np.flatnonzero(~store.vocabulary.is_special[ids_T.numpy()])
    assert packed["masked_positions"].tolist() == (words + read_at).tolist()
    assert packed["lm_labels"].tolist() == ids_T[words].tolist()
    assert "labels" not in packed
    # Each is read from a token of its own instance.
    instance_of = np.searchsorted(packed["cu_seqlens"].numpy(), packed["masked_positions"].numpy(), side="right")
    assert (instance_of == np.searchsorted(packed["cu_seqlens"].numpy(), words, side="right")).all()


def test_padded_labels_of_the_next_word_are_the_words_themselves_as_transformers_wants_them(store, instances):
    padded = DataCollatorForPretraining(store.vocabulary, predicts="next")(instances)
    is_word = ~torch.from_numpy(store.vocabulary.is_special)[padded["input_ids"]] & padded["attention_mask"].bool()
    assert torch.equal(padded["labels"], padded["input_ids"].masked_fill(~is_word, -100))
