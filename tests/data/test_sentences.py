"""From the lines of a text to its sentences."""

import pytest

from bertkit.data.corpus import ReadingOptions, open_corpus
from bertkit.data.sentences import check_language, is_wrapped, look_at_layout, split_sentences
from bertkit.errors import CorpusError

WRAPPED = """It was the best of times, it was the worst of times, it was the age
of wisdom, it was the age of foolishness. It was the epoch of belief,
it was the epoch of incredulity, it was the season of Light, and it was
the season of Darkness."""


def test_lines_taken_as_given_keep_what_a_splitter_would_cut():
    text = "He rose at 4 A. M. It rained.\n\n  Then   he slept. \n***\n"
    assert split_sentences(text, layout="line", language="en") == (
        "He rose at 4 A. M. It rained.",
        "Then he slept.",
        "***",
    )


def test_wrapped_lines_are_joined_before_sentences_are_found():
    text = "Mr. Smith went\nhome. He was au-\ndessus.\n\n* * *\n\nA new paragraph\n"
    assert split_sentences(text, layout="wrapped", language="en") == (
        "Mr. Smith went home.",
        "He was au-dessus.",
        "A new paragraph",
    )


def test_joining_wrapped_chinese_inserts_no_spaces():
    assert split_sentences("锣鼓经是大陆传统器\n乐。常用的 ABC\n节奏。", layout="wrapped", language="zh") == (
        "锣鼓经是大陆传统器乐。",
        "常用的 ABC 节奏。",
    )


def test_paragraph_lines_are_cut_but_never_joined():
    assert split_sentences("A heading\nOne here. Two here.", layout="paragraph", language="en") == (
        "A heading",
        "One here.",
        "Two here.",
    )


def test_a_dot_inside_a_name_ends_no_sentence():
    assert split_sentences("Use torch.nn.Module here. It has 0 @.@ 7 parts.", layout="paragraph", language="en") == (
        "Use torch.nn.Module here.",
        "It has 0 @.@ 7 parts.",
    )


@pytest.mark.parametrize(
    ("lines", "layout"),
    [
        (WRAPPED.splitlines(), "wrapped"),
        (["One sentence here.", "And a second one.", "", "Then a third."], "line"),
        (["One here. Two here. Three here.", "", "Four here. Five here."], "paragraph"),
        (["The cat sees the dog.", "The dog sees the hen.", "The hen sees the cat."], "line"),
        (["Only one line, nothing to compare it with"], "paragraph"),
        ([], "paragraph"),
    ],
)
def test_the_layout_is_seen(lines, layout):
    assert look_at_layout(lines, language="en") == layout


def test_wrapped_chinese_is_seen_by_its_width():
    text = "锣鼓经是大陆传统器乐及戏曲里面常用的打击乐记谱方法以中文字的声音模拟敲击乐的声音" * 5
    assert is_wrapped([text[start : start + 30] for start in range(0, len(text), 30)])


def test_rows_are_looked_at_one_by_one(tmp_path):
    from json import dumps

    (tmp_path / "a.jsonl").write_text(
        dumps({"text": WRAPPED}) + "\n" + dumps({"text": "A title\nOne. Two here."}) + "\n"
    )
    documents = open_corpus(str(tmp_path), ReadingOptions()).documents()
    assert [len(document.split("en").sentences) for document in documents] == [2, 3]


@pytest.mark.parametrize("language", ["klingon", "DE", "de-AT", "de_AT", "", "e"])
def test_what_sentencex_would_silently_take_for_english_is_refused(tmp_path, language):
    with pytest.raises(CorpusError, match="is no language code: write it as sentencex does"):
        open_corpus(str(tmp_path), ReadingOptions(language=language))


@pytest.mark.parametrize("language", ["en", "zh", "bar", "de-at", "zh-hant", "cbk-zam", "es-formal"])
def test_codes_of_sentencex_are_taken(language):
    check_language(language)
