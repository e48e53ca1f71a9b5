"""Files with a word a line: CoNLL columns and CoNLL-U, and the schemes that their tags follow."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from bertkit.errors import TaskError
from bertkit.tasks.spec import Example
from bertkit.tasks.text_files import read_lines

Scheme = Literal["IOB1", "IOB2", "IOBES", "none"]

BLANK: Final = " \t"
DOCUMENT_START: Final = "-DOCSTART-"
# CoNLL-U: the range of a contraction (3-4) and a word that was left out (5.1) are no words of the sentence.
NO_WORD: Final = re.compile(r"\d+[-.]\d+")
CONLLU_WORD_COLUMN: Final = 1
CONLLU_TAG_COLUMN: Final = 3
SPACES: Final = re.compile(" +")
ENTITY_TAG: Final = re.compile(r"([BIESLMU])-(.+)", re.DOTALL)
# BILOU and BMES are IOBES in other letters.
ENDS_OR_SINGLE: Final = frozenset("ESLMU")
STARTS: Final = frozenset("BSU")
CLOSES: Final = frozenset("ESLU")


@dataclass(frozen=True)
class _Token:
    place: int
    word: str
    tag: str | None


def read_conll(
    path: Path, *, word_column: int = 0, tag_column: int = -1, separator: str | None = None
) -> list[Example]:
    """The sentences of a file; a line that is blank or -DOCSTART- ends one. No tags where there is one column alone.

    separator: None finds it: a tab, or else spaces. In a .conllu file the words are in column 1 and the tags in
    column 3, unless other columns are asked for.

    Raises:
        TaskError: a line has another number of columns than the first, or an empty word or tag.
    """
    if path.suffix == ".conllu":
        word_column, tag_column = (
            word_column or CONLLU_WORD_COLUMN,
            CONLLU_TAG_COLUMN if tag_column == -1 else tag_column,
        )
    rows = _Rows.of(path, separator)
    rows.require_column(word_column)
    rows.require_column(tag_column)
    sentences = [
        _sentence(tokens, number, path) for number, tokens in enumerate(rows.sentences(word_column, tag_column))
    ]
    if not sentences:
        raise TaskError(f"{path} has no sentences: give a file with a word a line")
    return sentences


def detect_scheme(tag_sequences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme that the tags break the fewest rules of; "none" where they mark no entities, such as parts of speech.

    IOB1 has B- only between two neighbours of one type; IOB2 has it at every start; IOBES marks ends and single words.
    """
    not_iob1 = not_iob2 = 0
    is_iobes = False
    for tags in tag_sequences:
        before = ""
        for tag in tags:
            match = ENTITY_TAG.fullmatch(tag)
            if match is None:
                if tag != "O":
                    return "none"
                before = ""
                continue
            prefix, kind = match.groups()
            is_iobes = is_iobes or prefix in ENDS_OR_SINGLE
            not_iob1 += prefix == "B" and kind != before
            not_iob2 += prefix == "I" and kind != before
            before = kind
    if is_iobes:
        return "IOBES"
    return "IOB1" if not_iob2 > not_iob1 else "IOB2"


def to_iob2(tags: Sequence[str], scheme: Scheme) -> tuple[str, ...]:
    """The same entities in IOB2; tags that are in it already, or mark none, come back as they are."""
    if scheme in ("IOB2", "none"):
        return tuple(tags)
    converted: list[str] = []
    open_kind = ""
    for tag in tags:
        match = ENTITY_TAG.fullmatch(tag)
        if match is None:
            converted.append(tag)
            open_kind = ""
            continue
        prefix, kind = match.groups()
        starts = prefix in STARTS or kind != open_kind
        converted.append(f"{'B' if starts else 'I'}-{kind}")
        open_kind = "" if prefix in CLOSES else kind
    return tuple(converted)


@dataclass(frozen=True)
class _Rows:
    """The lines of one file, how they are separated, and how many columns each must have."""

    path: Path
    lines: list[str]
    separator: str | None
    width: int
    width_line: int

    @classmethod
    def of(cls, path: Path, separator: str | None) -> "_Rows":
        lines = read_lines(path)
        numbered = [(number, line) for number, line in enumerate(lines, start=1) if not _ends_sentence(line)]
        if not numbered:
            raise TaskError(f"{path} has no sentences: give a file with a word a line")
        # What may be a comment says nothing of the columns, unless there is nothing else.
        number, first = next((row for row in numbered if not row[1].startswith("#")), numbered[-1])
        if separator is None and "\t" in first:
            separator = "\t"
        return cls(path, lines, separator, len(_split(first, separator)), number)

    def require_column(self, column: int) -> None:
        if not -self.width <= column < self.width:
            raise TaskError(
                f"{self.path}:{self.width_line} has {self.width} columns and no column {column}: "
                "count them from 0, or from the end with -1"
            )

    def sentences(self, word_column: int, tag_column: int) -> Iterator[list[_Token]]:
        tokens: list[_Token] = []
        for number, line in enumerate(self.lines, start=1):
            if _ends_sentence(line):
                if tokens:
                    yield tokens
                tokens = []
                continue
            cells = _split(line, self.separator)
            if not self._is_comment(line, cells) and not self._is_no_word(cells):
                tokens.append(self._token(cells, number, word_column, tag_column))
        if tokens:
            yield tokens

    def _is_comment(self, line: str, cells: list[str]) -> bool:
        # "# O" may be the word "#" as well: there it has the columns of every other line.
        if not line.startswith("#") or len(cells) == self.width:
            return False
        return self.path.suffix == ".conllu" or (line.startswith("# ") and "\t" not in line)

    def _is_no_word(self, cells: list[str]) -> bool:
        return self.path.suffix == ".conllu" and NO_WORD.fullmatch(cells[0]) is not None

    def _token(self, cells: list[str], number: int, word_column: int, tag_column: int) -> _Token:
        place = f"{self.path}:{number}"
        if len(cells) != self.width:
            raise TaskError(
                f"{place} has {len(cells)} columns where line {self.width_line} has {self.width}: give every word "
                "its columns, and a blank line between sentences"
            )
        word, tag = cells[word_column], cells[tag_column] if self.width > 1 else None
        if not word.strip(BLANK) or (tag is not None and not tag.strip(BLANK)):
            empty = "tag" if word.strip(BLANK) else "word"
            raise TaskError(f"{place} has an empty {empty}: write one, or take the line out")
        return _Token(number, word, tag)


def _ends_sentence(line: str) -> bool:
    return not line.strip(BLANK) or line.startswith(DOCUMENT_START)


def _split(line: str, separator: str | None) -> list[str]:
    # Not str.split(): words may hold spaces of other kinds than the one that separates.
    return SPACES.split(line.strip(" ")) if separator is None else line.split(separator)


def _sentence(tokens: list[_Token], number: int, path: Path) -> Example:
    tags = tuple(token.tag for token in tokens if token.tag is not None)
    return Example(
        key=str(number),
        place=f"{path.name}:{tokens[0].place}",
        texts=tuple(token.word for token in tokens),
        label=tags or None,
    )
