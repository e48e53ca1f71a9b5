"""Text to sentences: how its lines are laid out, and where its sentences end."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import sentencex

from bertkit.errors import CorpusError

# "line": one sentence a line, as given. "paragraph": a line is a paragraph or a sentence, never part of one.
# "wrapped": lines are cut at a width; blank lines lie between paragraphs.
Layout = Literal["line", "paragraph", "wrapped"]

CJK: Final = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
CJK_CHARACTER: Final = re.compile(f"[{CJK}]")
BETWEEN_PARAGRAPHS: Final = re.compile(r"\n\s*\n")
BREAK_INSIDE_CJK: Final = re.compile(rf"(?<=[{CJK}])[^\S\n]*\n\s*(?=[{CJK}])")
BREAK_AFTER_HYPHEN: Final = re.compile(r"(?<=\w)-\n\s*(?=\w)")
HAS_WORD: Final = re.compile(r"\w")
# Full stops of Latin and of Chinese script, and the quotes and brackets that may follow them.
ENDS_SENTENCE: Final = re.compile("[.!?:;\u2026\u3002\uff01\uff1f\"'\u2019\u201d\u00bb\u300d\u300f)\uff09\\]]$")

# Over ten corpora the share of full lines was 0.14 to 0.16 for unwrapped text and 0.89 to 0.99 for wrapped books.
WRAPPED_SHARE: Final = 0.5
NARROWEST_WRAP: Final = 25
WIDEST_WRAP: Final = 200
# In wrapped books 9 to 35 of 100 lines end with a sentence, where lines are sentences or paragraphs 69 to 99.
ENDED_SHARE: Final = 0.6
# The original BERT sample has 1.0 sentences a line, a Chinese passage a line about 3.
SENTENCES_A_LINE: Final = 1.5
LINES_LOOKED_AT: Final = 2000
# sentencex knows de, bar and de-at; DE, german and de-AT it would take for English without a word.
LANGUAGE_CODE: Final = re.compile(r"[a-z]{2,3}(-[a-z]{2,8})?")


def split_sentences(text: str, *, layout: Layout, language: str) -> tuple[str, ...]:
    """Cut one document into sentences without line breaks.

    Pieces without a letter or digit, such as rows of stars, are left out unless lines are taken as given.
    """
    if layout == "line":
        return tuple(sentence for line in text.splitlines() if (sentence := _one_spaced(line)))
    return tuple(
        sentence
        for paragraph in _paragraphs(text, layout)
        for piece in _segment(paragraph, language)
        if HAS_WORD.search(sentence := _one_spaced(piece))
    )


def _segment(paragraph: str, language: str) -> Iterator[str]:
    """Sentences by sentencex; a dot with no space after it, as in torch.nn.Module, ends none."""
    begun = ""
    for piece in sentencex.segment(language, paragraph):
        if piece.endswith("."):
            begun += piece
        else:
            yield begun + piece
            begun = ""
    if begun:
        yield begun


def look_at_layout(lines: Sequence[str], *, language: str) -> Layout:
    """Tell how text is laid out from a sample of its lines."""
    # What could not be decoded came as lone surrogates, which sentencex does not take.
    stripped = [line.strip().encode(errors="replace").decode() for line in lines[:LINES_LOOKED_AT]]
    if is_wrapped(stripped):
        return "wrapped"
    written = [line for line in stripped if line]
    sentences = sum(len(list(_segment(line, language))) for line in written)
    return "line" if len(written) > 1 and sentences <= SENTENCES_A_LINE * len(written) else "paragraph"


def is_wrapped(lines: Sequence[str]) -> bool:
    """Tell text wrapped at a width from text whose lines are whole.

    A line is full when the next line's first word would not have fitted. Wrapped text is mostly full lines, and so are
    short sentences of one length, but these end where their lines do.
    """
    lines = lines[:LINES_LOOKED_AT]
    written = [line for line in lines if line]
    pairs = [(line, following) for line, following in pairwise(lines) if line and following]
    if not pairs or sum(bool(ENDS_SENTENCE.search(line)) for line in written) >= ENDED_SHARE * len(written):
        return False
    width = float(np.percentile([len(line) for line in written], 90))
    full = sum(len(line) + 1 + _first_word_length(following) > width - 2 for line, following in pairs)
    return NARROWEST_WRAP <= width <= WIDEST_WRAP and full >= WRAPPED_SHARE * len(pairs)


def check_language(language: str) -> None:
    """Raise CorpusError for what cannot be a language code: sentencex takes any word, and means English by it."""
    if not LANGUAGE_CODE.fullmatch(language):
        raise CorpusError(
            f"data.language {language!r} is no language code: write it as sentencex does, two or three small letters "
            "and perhaps a variant, such as en, de, zh or de-at"
        )


def is_cjk(character: str) -> bool:
    """Whether this is a Chinese, Japanese or Korean character, or punctuation of theirs."""
    return CJK_CHARACTER.fullmatch(character) is not None


def _paragraphs(text: str, layout: Layout) -> Iterator[str]:
    if layout == "paragraph":
        yield from text.splitlines()
        return
    for paragraph in BETWEEN_PARAGRAPHS.split(text):
        # Chinese and Japanese have no spaces between words, and a hyphen at the end of a line belongs to its word.
        if not paragraph.isascii():
            paragraph = BREAK_INSIDE_CJK.sub("", paragraph)
        if "-\n" in paragraph:
            paragraph = BREAK_AFTER_HYPHEN.sub("-", paragraph)
        yield _one_spaced(paragraph)


def _one_spaced(text: str) -> str:
    return " ".join(text.split())


def _first_word_length(line: str) -> int:
    return 1 if is_cjk(line[0]) else len(line.split(None, 1)[0])
