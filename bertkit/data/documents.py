"""What a document is in a plain text file: decided by an option, or by looking at the file."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from bertkit.data.sentences import is_wrapped
from bertkit.errors import CorpusError

WIKI_HEADING: Final = re.compile(r"\s?=[^=\n]*[^=\s][^=\n]*=\s*")
WIKI_ANY_HEADING: Final = re.compile(r"\s*=.*=\s*")
CHAPTER_HEADING: Final = re.compile(
    r"\s*(?:(?:(?i:chapter|book|part|letter|volume|stave|act|adventure|kapitel|teil|chapitre|partie|livre|cap[ií]tulo|capitolo)"
    r"\s+(?:[IVXLCDM]+|\d+|the\s+\w+|[A-Z]\w*)\b.{0,80})"
    r"|[IVXLCDM]+\.?|[IVXLCDM]+\.\s+[A-Z].{0,60})\s*"
)
SAMPLE_CHARS: Final = 2_000_000
LEAST_CHAPTERS: Final = 3
LEAST_LINES_A_GROUP: Final = 2
# A page of contents is a run of headings with little between them.
LEAST_CHAPTER_LINES: Final = 8


@dataclass(frozen=True)
class DocumentRule:
    """How a text file is cut: at blank lines, where `start` matches a whole line, or not at all."""

    said: str
    blank_lines: bool = False
    start: re.Pattern[str] | None = None
    # A chapter's heading stands after a blank line, or "I." would be a heading wherever a wrapped line begins with it.
    after_blank: bool = False
    least_body_lines: int = 1
    left_out: re.Pattern[str] | None = None


WHOLE_FILE: Final = DocumentRule("a file")
BLANK_LINES: Final = DocumentRule("a group of lines between blank lines", blank_lines=True)
WIKI_ARTICLES: Final = DocumentRule(
    "an article (lines matching ' = Title = '; heading lines are left out)",
    start=WIKI_HEADING,
    left_out=WIKI_ANY_HEADING,
)
CHAPTERS: Final = DocumentRule(
    "a chapter (headings like 'Chapter 1', 'BOOK II' or 'IV.' after a blank line)",
    start=CHAPTER_HEADING,
    after_blank=True,
    least_body_lines=LEAST_CHAPTER_LINES,
)


def document_rule(option: str) -> DocumentRule | None:
    """The rule an option names; None for 'auto'. Raises CorpusError for any other word or a broken pattern."""
    if option == "auto":
        return None
    if option in ("file", "blank-line"):
        return WHOLE_FILE if option == "file" else BLANK_LINES
    kind, _, pattern = option.partition(":")
    if kind != "heading" or not pattern:
        raise CorpusError(f"data.document {option!r} is none of 'auto', 'file', 'blank-line', 'heading:REGEX'")
    try:
        # A pattern that matches the start of a line is what people write: ^CHAPTER
        return DocumentRule(f"what follows a line matching {pattern}", start=re.compile(rf"(?:{pattern}).*\s*"))
    except re.error as error:
        raise CorpusError(f"data.document: {pattern!r} is not a regular expression ({error})") from error


def look_at_documents(lines: Sequence[str]) -> DocumentRule:
    """Decide from a sample of a file's lines."""
    if sum(bool(WIKI_HEADING.fullmatch(line)) for line in lines) >= 2:
        return WIKI_ARTICLES
    stripped = [line.strip() for line in lines]
    groups = _group_sizes(stripped)
    if not is_wrapped(stripped) and len(groups) >= 2 and sum(groups) >= LEAST_LINES_A_GROUP * len(groups):
        return BLANK_LINES
    chapters = sum(1 for _ in split_documents(lines, CHAPTERS, max_chars=SAMPLE_CHARS))
    return CHAPTERS if chapters >= LEAST_CHAPTERS else WHOLE_FILE


def split_documents(lines: Iterable[str], rule: DocumentRule, *, max_chars: int) -> Iterator[str]:
    """Cut lines into the texts of documents; one of more than `max_chars` is cut off just above that, to be counted.

    A heading right after a heading starts no new document, so that a table of contents is one document, not a hundred.
    """
    kept: list[str] = []
    chars = body_lines = 0
    after_blank, yielded = True, False
    for line in lines:
        blank = not line.strip()
        heading = rule.start is not None and not blank and rule.start.fullmatch(line) is not None
        starts = (heading and (after_blank or not rule.after_blank)) or (blank and rule.blank_lines)
        after_blank = blank
        if starts and body_lines >= rule.least_body_lines:
            yield "".join(kept)
            kept, chars, body_lines, yielded = [], 0, 0, True
        body_lines += not (blank or heading)
        if chars <= max_chars and not (rule.left_out and rule.left_out.fullmatch(line)):
            kept.append(line)
            chars += len(line)
    # An empty file is a document too, so that it is counted as an empty one.
    if (rest := "".join(kept)).strip() or not yielded:
        yield rest


def _group_sizes(stripped: Sequence[str]) -> list[int]:
    """Numbers of lines between blank ones."""
    return [sum(1 for _ in lines) for written, lines in groupby(stripped, key=bool) if written]
