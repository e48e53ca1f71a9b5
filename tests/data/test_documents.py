"""What a document is in a text file: as told, or as found by looking."""

from pathlib import Path

import pytest

from bertkit.data.corpus import ReadingNotes, ReadingOptions, open_corpus
from bertkit.data.documents import (
    BLANK_LINES,
    CHAPTERS,
    WHOLE_FILE,
    WIKI_ARTICLES,
    document_rule,
    look_at_documents,
    split_documents,
)

CORPORA = Path(__file__).parents[3] / "shared" / "data" / "corpora"
needs_corpora = pytest.mark.skipif(not CORPORA.is_dir(), reason="the shared corpora are not here")


def cut(text, option):
    rule = document_rule(option) or look_at_documents(text.splitlines(keepends=True))
    return [document.strip() for document in split_documents(text.splitlines(keepends=True), rule, max_chars=10_000)]


def prose(lines, word="lorem"):
    """Text wrapped at a width, with a paragraph every five lines."""
    line = " ".join([word] * 11)
    return "\n".join(line + ("\n" if number % 5 == 4 else "") for number in range(lines))


def book(chapters):
    contents = "\n".join(f"CHAPTER {number}. Of things" for number in range(1, chapters + 1))
    return f"THE TITLE\n\n{contents}\n\n" + "\n\n".join(
        f"CHAPTER {number}. Of things\n\n{prose(12, word='word' + str(number))}" for number in range(1, chapters + 1)
    )


def test_a_file_is_one_document_when_told_so():
    assert cut("One.\n\nTwo.\n", "file") == ["One.\n\nTwo."]


def test_blank_lines_part_documents_however_many_there_are():
    assert cut("\n\nOne.\nStill one.\n\n \n\nTwo.\n\n", "blank-line") == ["One.\nStill one.", "Two."]


def test_headings_begin_documents_and_a_heading_after_a_heading_does_not():
    text = "Front.\n# A\n# B\n\n# C\nText of C.\n# D\nText of D.\n"
    assert cut(text, "heading:^# ") == ["Front.", "# A\n# B\n\n# C\nText of C.", "# D\nText of D."]


def test_an_overlong_document_is_cut_off_just_above_the_limit():
    documents = list(split_documents(["12345\n"] * 100 + ["\n", "short\n"], BLANK_LINES, max_chars=20))
    assert [len(document) for document in documents] == [24, 7]


def test_an_empty_file_is_one_empty_document():
    assert list(split_documents([], WHOLE_FILE, max_chars=10)) == [""]


def test_sentences_in_groups_are_documents_between_blank_lines():
    assert cut("One is here.\nTwo is there.\n\nThree is here too.\nFour.\n", "auto") == [
        "One is here.\nTwo is there.",
        "Three is here too.\nFour.",
    ]


def test_a_book_is_its_chapters_and_its_table_of_contents_is_not():
    documents = cut(book(4), "auto")
    assert len(documents) == 4
    assert documents[0].startswith("THE TITLE\n\nCHAPTER 1. Of things\nCHAPTER 2.")
    assert all(document.startswith(f"CHAPTER {n}. Of things\n\nword{n}") for n, document in enumerate(documents[1:], 2))


def test_wrapped_prose_without_chapters_is_one_document():
    assert len(cut(prose(60), "auto")) == 1


def test_wiki_articles_begin_with_a_title_and_lose_their_headings():
    text = " \n = Cat = \n \n A cat is a cat . \n \n = = Food = = \n \n It eats . \n \n = Dog = \n \n A dog barks . \n"
    articles = cut(text, "auto")
    assert [[line.strip() for line in article.splitlines() if line.strip()] for article in articles] == [
        ["A cat is a cat .", "It eats ."],
        ["A dog barks ."],
    ]


@needs_corpora
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("bert_sample_text.txt", BLANK_LINES),
        ("chinese_wikipedia/cmrc2018_passages_simplified.txt", BLANK_LINES),
        ("wikitext-2/wiki.valid.tokens", WIKI_ARTICLES),
        ("gutenberg/en/84_frankenstein.txt", CHAPTERS),
        ("gutenberg/de/22367_die_verwandlung.txt", CHAPTERS),
    ],
)
def test_real_files_are_seen_for_what_they_are(name, rule):
    assert look_at_documents((CORPORA / name).read_text("utf-8-sig").splitlines(keepends=True)) == rule


@needs_corpora
def test_real_corpora_give_documents_of_a_sensible_number_and_size():
    notes = ReadingNotes()
    books = list(open_corpus(str(CORPORA / "gutenberg" / "en"), ReadingOptions()).documents(notes))
    assert 550 < len(books) < 700
    assert min(len(document.text) for document in books) > 300
    assert list(notes.decisions.values()) == [7, 7]
    sample = list(open_corpus(str(CORPORA / "bert_sample_text.txt"), ReadingOptions()).documents())
    assert [len(document.split("en").sentences) for document in sample] == [3, 13, 15]
