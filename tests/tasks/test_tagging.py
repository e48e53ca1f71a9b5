"""Tagging: every word of every sentence is labelled once, whatever its length, and comes back in its place."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_encoder import padded_rows, pieces_of, toy_encoder, toy_model

from bertkit.data.collate import IGNORED
from bertkit.data.features import collate_features
from bertkit.errors import TaskError
from bertkit.model import BertKitForTokenClassification, to_stock
from bertkit.tasks.problem import ProblemOptions
from bertkit.tasks.spec import Example
from bertkit.tasks.tagging import TAGGING

TAGS = ("O", "B-ANIMAL", "I-ANIMAL", "B-PLACE")
# Nothing is left of the last three; the long one has 150 pieces.
ODD_WORDS = ["cat", "sittings", "Café", "😀", "日本", "New York", "don't", "z9" * 75, "", "\u200b", "\x00"]
SENTENCES = st.lists(st.lists(st.sampled_from(ODD_WORDS), max_size=40), max_size=5)


def options(max_seq_length=16, doc_stride=5):
    return ProblemOptions(labels=TAGS, max_seq_length=max_seq_length, doc_stride=doc_stride)


def sentence(words, tags=None, number=0):
    return Example(key=str(number), place=f"train.conll:{number}", texts=tuple(words), label=tags)


def tagged(sentences, seed=0):
    generator = np.random.default_rng(seed)
    return [
        sentence(words, tuple(TAGS[i] for i in generator.integers(len(TAGS), size=len(words))), number)
        for number, words in enumerate(sentences)
    ]


def featurize(examples, given, with_targets=True):
    return TAGGING.featurize(examples, toy_encoder(), given, with_targets)


def gold_logits(features):
    """Wrong at every token that does not speak for a word."""
    labels = features.token_targets["labels"]
    return np.eye(len(TAGS), dtype=np.float32)[np.where(labels == IGNORED, np.arange(len(labels)) % len(TAGS), labels)]


@settings(deadline=None)
@given(SENTENCES, st.integers(3, 40), st.integers(1, 50))
def test_every_word_of_every_sentence_is_labelled_once_and_gold_comes_back(sentences, max_seq_length, doc_stride):
    examples, given = tagged(sentences), options(max_seq_length, doc_stride)
    features = featurize(examples, given)
    assert (features.lengths <= max_seq_length).all()
    assert (features.token_targets["labels"] != IGNORED).sum() == sum(map(len, sentences))
    predictions = TAGGING.decode(examples, features, gold_logits(features), given)
    assert [prediction.value for prediction in predictions] == [example.label for example in examples]
    assert [len(p.details["probabilities"]) for p in predictions] == [len(words) for words in sentences]


def test_a_sentence_of_five_hundred_words_is_tagged_whole_in_windows_of_sixteen():
    [example] = tagged([["sittings", "cat", "on"] * 166 + ["mat", "cafe"]])
    features = featurize([example], options())
    assert len(example.texts) == 500
    assert len(features) > 500 / 14
    assert features.num_cut == 0
    [prediction] = TAGGING.decode([example], features, gold_logits(features), options())
    assert prediction.value == example.label


def test_the_first_piece_of_a_word_speaks_for_it():
    features = featurize([sentence(["the", "cats", "\x00", "zap"], ("O", "B-ANIMAL", "O", "B-PLACE"))], options())
    assert pieces_of(features, 0) == "[CLS] the cat ##s [UNK] z ##a ##p [SEP]"
    assert features.alignment["word"].tolist() == [-1, 0, 1, -1, 2, 3, -1, -1, -1]
    assert features.token_targets["labels"].tolist() == [-100, 0, 1, -100, 0, 3, -100, -100, -100]


def test_windows_begin_at_words_and_a_word_counts_where_most_is_around_it():
    features = featurize([sentence(["cats", "on", "mats", "sat"])], options(6, 2), with_targets=False)
    assert [pieces_of(features, number) for number in range(len(features))] == [
        "[CLS] cat ##s on [SEP]",
        "[CLS] on mat ##s sat [SEP]",
    ]
    # "on" is at the edge of both; the second window is the longer one.
    assert features.alignment["word"].tolist() == [-1, 0, -1, -1, -1, -1, 1, 2, -1, 3, -1]
    assert features.token_targets == {}


def test_a_word_longer_than_a_window_keeps_its_first_pieces_and_is_counted_as_cut():
    features = featurize([sentence(["cat", "abcdefgh", "mat"]), sentence(["cat"])], options(6, 3), with_targets=False)
    assert [pieces_of(features, number) for number in range(len(features))] == [
        "[CLS] cat [SEP]",
        "[CLS] a ##b ##c ##d [SEP]",
        "[CLS] mat [SEP]",
        "[CLS] cat [SEP]",
    ]
    assert features.num_cut == 1


def test_a_sentence_without_words_has_no_tags():
    examples = [sentence([], ()), sentence(["cat"], ("O",))]
    features = featurize(examples, options())
    assert pieces_of(features, 0) == "[CLS] [SEP]"
    empty, other = TAGGING.decode(examples, features, gold_logits(features), options())
    assert (empty.value, empty.probability, empty.details) == ((), None, {"probabilities": []})
    assert other.value == ("O",)


def test_no_sentences_are_no_predictions():
    assert TAGGING.decode([], featurize([], options()), np.zeros((0, 4), np.float32), options()) == []


def test_probabilities_are_those_of_the_best_tag_and_their_mean():
    examples = [sentence(["cat", "mat"])]
    features = featurize(examples, options(), with_targets=False)
    logits = np.log(np.array([[1, 1, 1, 1], [7, 1, 1, 1], [1, 1, 4, 4.0001], [1, 1, 1, 1]], np.float32))
    [prediction] = TAGGING.decode(examples, features, logits, options())
    assert prediction.value == ("O", "B-PLACE")
    assert prediction.details == {"probabilities": [0.7, 0.4]}
    assert prediction.probability == pytest.approx(0.55, abs=1e-5)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (("O", "B-PLANET"), "train.conll:7 has the label 'B-PLANET', which is not one of O, B-ANIMAL"),
        (("O",), "train.conll:7 has 1 labels for 2 words: give one a word"),
        (None, "train.conll:7 has no label"),
    ],
)
def test_labels_that_cannot_be_trained_on_are_named_with_their_place(label, message):
    example = sentence(["cat", "mat"], label, 7)
    with pytest.raises(TaskError, match=message):
        featurize([example], options())
    assert len(featurize([example], options(), with_targets=False)) == 1


def test_the_packed_loss_is_that_of_stock_bert_on_padded_rows():
    examples = tagged([["cats", "sat", "on", "the", "mat"] * 4, ["zap"], [], ["日本", "café", "\x00"]])
    features = featurize(examples, options())
    batch = collate_features(features, np.arange(len(features)))
    model = toy_model(BertKitForTokenClassification, num_labels=len(TAGS))
    term = TAGGING.loss_terms(model, batch)["tagging"]
    assert TAGGING.target_counts(batch) == {"tagging": int(term.count)} == {"tagging": 24}
    rows = padded_rows(batch)
    labels = torch.full_like(rows["input_ids"], IGNORED)
    labels[rows["attention_mask"].bool()] = batch["labels"]
    expected = to_stock(model)(**rows, labels=labels)
    torch.testing.assert_close(term.sum / term.count, expected.loss)
    assert term.correct == (expected.logits.argmax(-1) == labels).sum()
    torch.testing.assert_close(TAGGING.outputs(model, batch), expected.logits[rows["attention_mask"].bool()])
