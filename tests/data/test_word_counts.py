"""Counts of words: a vocabulary trained from them is the one trained from the text."""

from collections import Counter

import pytest

from bertkit.data import word_counts
from bertkit.data.tokenizer import CharacterCounts, WordPieceOptions, train_from_counts, train_wordpiece, word_splitter
from bertkit.data.word_counts import WordCounts, merge_counts, read_counts, write_counts

# White space of every kind, control characters, marks that combine, Chinese, and a word next to nothing.
ODD = (
    "the\x1ccat saw\u2003a cafe\u0301, caf\u00e9.\r\nDon't\tsay\u200b 東京は\u3000大きい\x00 "
    "\ufffd x\u0085y \ufb01 \u00a0 end"
)
CATS = "The cat sees the dog. The dog sees the cat near the river."
# The last word is longer than any that is ever tokenised.
TEXTS = [ODD, CATS, "", " \n", "cat " * 400, ODD.upper(), "cat" + "y" * 150]


def counted(folder, texts, options):
    counts = WordCounts(folder, options)
    for text in texts:
        counts.add(text)
    counts.save(folder / "words.arrow")
    return list(read_counts(folder / "words.arrow"))


@pytest.mark.parametrize("options", [WordPieceOptions(vocab_size=120), WordPieceOptions(120, False, False, False, 1)])
def test_a_vocabulary_from_counts_is_the_vocabulary_from_the_text(tmp_path, options):
    characters = CharacterCounts()
    for text in TEXTS:
        characters.add(text)
    expected = train_wordpiece(TEXTS, options, characters=characters.as_dict())
    made = train_from_counts(counted(tmp_path, TEXTS, options), options, characters=characters.as_dict())
    assert made.to_str() == expected.to_str()
    assert len(made.get_vocab()) > 60


def test_words_are_counted_as_training_cuts_them(tmp_path):
    options = WordPieceOptions()
    split = word_splitter(options)
    expected = Counter(word for text in TEXTS for word in split(text))
    assert dict(counted(tmp_path, TEXTS, options)) == expected
    assert expected["the"] == 5
    assert expected["cat"] == 402


def test_what_goes_to_files_in_between_changes_no_count(tmp_path, monkeypatch):
    (tmp_path / "whole").mkdir()
    whole = counted(tmp_path / "whole", TEXTS * 3, WordPieceOptions())
    monkeypatch.setattr(word_counts, "REMEMBERED_CHUNKS", 3)
    monkeypatch.setattr(word_counts, "MERGED_AT_ONCE", 2)
    monkeypatch.setattr(word_counts, "ROWS_A_BATCH", 2)
    assert counted(tmp_path, TEXTS * 3, WordPieceOptions()) == whole
    assert len(list(tmp_path.glob("merged-1-*"))) > 1
    assert whole == sorted(whole)


def test_counts_of_parts_add_up(tmp_path):
    write_counts(tmp_path / "a", [("cat", 1), ("dog", 2)])
    write_counts(tmp_path / "b", [("bee", 3), ("dog", 4)])
    assert list(merge_counts([tmp_path / "a", tmp_path / "b"], folder=tmp_path)) == [("bee", 3), ("cat", 1), ("dog", 6)]
    assert list(merge_counts([], folder=tmp_path)) == []


def test_a_word_more_frequent_than_a_text_is_long_is_fed_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("bertkit.data.tokenizer.REPEATED_CHARS", 10)
    characters = CharacterCounts()
    for text in TEXTS:
        characters.add(text)
    options = WordPieceOptions(vocab_size=120)
    expected = train_wordpiece(TEXTS, options, characters=characters.as_dict())
    made = train_from_counts(counted(tmp_path, TEXTS, options), options, characters=characters.as_dict())
    assert made.get_vocab() == expected.get_vocab()
