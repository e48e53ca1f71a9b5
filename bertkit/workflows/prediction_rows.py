"""What is to be predicted, row by row: files of every kind, standard input, single sentences; bad rows in turn."""

import io
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import PurePosixPath
from typing import IO, Final, Literal

from bertkit.data.sources import COMPRESSED
from bertkit.errors import TaskError
from bertkit.tasks.columns import Columns, Header, complete
from bertkit.tasks.own_files import ROWS_LOOKED_AT, stream_examples
from bertkit.tasks.own_rows import example_of
from bertkit.tasks.spec import Example, ProblemName
from bertkit.tasks.table import (
    FORMATS_NAMED,
    BrokenRow,
    TableRow,
    errors_named,
    find_file,
    format_of,
    is_json_array,
    row_of_line,
    text_fault,
)

logger = logging.getLogger(__name__)

InputKind = Literal["csv", "tsv", "jsonl", "json", "parquet", "conll", "squad", "lines"]
Row = Example | BrokenRow

STANDARD_INPUT: Final = "-"
STANDARD_INPUT_NAMED: Final = "standard input"
# What a line without a header is called in the output.
TEXT_NAMES: Final = {1: ("text",), 2: ("text1", "text2")}
LINES_WANTED: Final = {
    "tagging": "words with blanks between them",
    "span_qa": "a question, a tab and its context",
    "multiple_choice": "a context and its choices, with tabs between them",
}
SENTENCES_WANTED: Final = {
    "span_qa": "a question and its context",
    "multiple_choice": "a context and two or more choices",
}


@dataclass(frozen=True)
class Wanted:
    """What the model takes: its kind of problem, columns of files, and names of its texts, empty where not known.

    is_asked: whether the user named the columns, or training did. sentences_in_txt: whether a .txt holds one text a
    line also where words are wanted, and no columns.
    """

    problem: ProblemName
    columns: Columns
    text_names: tuple[str, ...] = ()
    is_asked: bool = False
    sentences_in_txt: bool = False

    def columns_by_number(self) -> Columns:
        """The columns for a file that has no names; those of training only where they are numbers."""
        texts = tuple(name for name in self.columns.texts if self.is_asked or name.lstrip("-").isdecimal())
        label = self.columns.label
        return Columns(texts=texts, label=label if label and label.lstrip("-").isdecimal() else None)


def require_files(inputs: Sequence[str]) -> None:
    """Look whether every input is there, before anything slow begins.

    Raises:
        TaskError: one is not; or standard input is named twice.
    """
    if inputs.count(STANDARD_INPUT) > 1:
        raise TaskError("- is given twice: standard input can be read once")
    for path in inputs:
        if path != STANDARD_INPUT:
            try:
                find_file(path)
            except TaskError as error:
                hint = "; a sentence itself is given with --sentence" if " " in path else ""
                raise TaskError(f"{error}{hint}") from None


def kind_of_input(path: str, wanted: Wanted) -> InputKind:
    """How a file is read, by its suffix and what is wanted of it.

    Raises:
        TaskError: the suffix says nothing.
    """
    if path == STANDARD_INPUT:
        return "lines"
    source = find_file(path)
    kind, is_txt = format_of(source.name), _suffix(source.name) == ".txt"
    if wanted.problem == "tagging" and kind in (None, "tsv") and not (is_txt and wanted.sentences_in_txt):
        return "conll"
    if wanted.problem == "span_qa" and kind == "json" and not is_json_array(source):
        return "squad"
    if kind is None and is_txt:
        return "lines"
    if kind is None:
        raise TaskError(
            f"{source.name} has no suffix that says what it is: give {FORMATS_NAMED}, or .txt with one text a line"
        )
    return kind  # type: ignore[return-value]


def read_rows(inputs: Sequence[str], sentences: Sequence[str], wanted: Wanted) -> Iterator[Row]:
    """Every row in order, `columns` filled with what the output hands back.

    Raises:
        TaskError: an input as a whole cannot be used; a row that cannot comes as `BrokenRow`.
    """
    given = _sentence_rows(sentences, wanted)
    for row in chain(given, *(_rows_of(path, wanted) for path in inputs)):
        yield _if_not_blank(row, wanted.problem)


def _rows_of(path: str, wanted: Wanted) -> Iterator[Row]:
    kind = kind_of_input(path, wanted)
    if path == STANDARD_INPUT:
        if sys.stdin.isatty():
            what = LINES_WANTED.get(wanted.problem, "one text, or a pair with a tab between")
            logger.info("%s", f"reading from the keyboard, a line each: {what}; Ctrl-D ends")
        # What does not decode is found row by row.
        lines = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", errors="surrogateescape")
        try:
            yield from _line_rows(lines, STANDARD_INPUT_NAMED, wanted)
        finally:
            lines.detach()
    elif kind == "lines":
        source = find_file(path)
        with errors_named(), source.open_text("utf-8") as file:
            yield from _line_rows(file, source.name, wanted)
    elif kind in ("conll", "squad"):
        yield from _local_rows(path, wanted)
    else:
        for row in stream_examples(path, wanted.problem, wanted.columns):
            _require_as_many_texts(row, path, wanted)
            yield row


def _require_as_many_texts(row: Row, path: str, wanted: Wanted) -> None:
    # A model of pairs says something of one text too, and nothing that it was trained for.
    needed = len(wanted.text_names)
    if needed and isinstance(row, Example) and len(row.texts) != needed:
        one, two = ("one text", "pairs of texts")
        given, taken = (one, two) if needed > 1 else (two, one)
        raise TaskError(
            f"{path} is read as {given}, but the model takes {taken}: name {needed} of its columns, each with --text"
        )


def _local_rows(path: str, wanted: Wanted) -> Iterator[Row]:
    """Sentences and questions of files without columns, which get some."""
    for row in stream_examples(path, wanted.problem, wanted.columns_by_number()):
        if isinstance(row, BrokenRow):
            yield row
        elif wanted.problem == "tagging":
            tags = {"tags": list(row.label)} if isinstance(row.label, tuple) else {}
            yield replace(row, columns={"tokens": list(row.texts), **tags})
        else:
            yield replace(row, columns={"id": row.key, "question": row.texts[0], "context": row.texts[1]})


def _line_rows(file: IO[str], name: str, wanted: Wanted) -> Iterator[Row]:
    """A text a line; JSON where the first line that is not blank starts with a brace."""
    numbered = ((number, line.rstrip("\r\n")) for number, line in enumerate(file, start=1))
    first = []
    for number, line in numbered:
        first.append((number, line))
        if line.strip():
            break
    if not first or not first[-1][1].strip():
        raise TaskError(f"{name} is empty: give one text a line, or JSON objects")
    lines = chain(first, numbered)
    if first[-1][1].lstrip().startswith("{"):
        yield from _json_rows(lines, name, wanted)
        return
    for number, line in lines:
        place = f"{name}:{number}"
        fault = text_fault(line)
        yield BrokenRow(place, fault) if fault else _row_of_texts(_texts_of_line(line, wanted), place, wanted)


def _json_rows(lines: Iterator[tuple[int, str]], name: str, wanted: Wanted) -> Iterator[Row]:
    rows = (row_of_line(line, f"{name}:{number}") for number, line in lines if line.strip())
    first = list(islice(rows, ROWS_LOOKED_AT))
    readable = [row.columns for row in first if isinstance(row, TableRow)]
    if not readable:
        raise TaskError(str(first[0]))
    columns = complete(wanted.columns, wanted.problem, Header.of(name, readable), with_labels=False)
    for row in chain(first, rows):
        made = row if isinstance(row, BrokenRow) else example_of(row, wanted.problem, columns, with_labels=False)
        _require_as_many_texts(made, name, wanted)
        yield made


def _sentence_rows(sentences: Sequence[str], wanted: Wanted) -> Iterator[Row]:
    """Sentences of the command line: one a row, or as many a row as the model takes texts."""
    size = {"tagging": 1, "span_qa": 2, "multiple_choice": len(sentences)}.get(
        wanted.problem, len(wanted.text_names) or 1
    )
    if sentences and (len(sentences) % size or (wanted.problem == "multiple_choice" and size < 3)):
        what = SENTENCES_WANTED.get(wanted.problem, "two texts a row")
        raise TaskError(
            f"--sentence is given {len(sentences)} times, but the model takes {what}: give it once for each of them"
        )
    for number, first in enumerate(range(0, len(sentences), size or 1), start=1):
        texts = tuple(sentences[first : first + size])
        place = f"--sentence {number}"
        fault = text_fault("".join(texts))
        yield (
            BrokenRow(place, fault)
            if fault
            else _row_of_texts(tuple(texts[0].split()) if wanted.problem == "tagging" else texts, place, wanted)
        )


def _texts_of_line(line: str, wanted: Wanted) -> tuple[str, ...]:
    if wanted.problem == "tagging":
        return tuple(line.split())
    if wanted.problem == "multiple_choice":
        return tuple(line.split("\t"))
    if wanted.problem != "span_qa" and len(wanted.text_names) == 1:
        return (line,)
    return tuple(line.split("\t", 1))


def _row_of_texts(texts: tuple[str, ...], place: str, wanted: Wanted) -> Row:
    example = Example(place, place, texts)
    if wanted.problem == "tagging":
        return replace(example, columns={"tokens": list(texts)})
    if wanted.problem == "multiple_choice":
        return replace(example, columns={"context": texts[0], "choices": list(texts[1:])})
    names = ("question", "context") if wanted.problem == "span_qa" else wanted.text_names or TEXT_NAMES[len(texts)]
    columns = dict(zip(names, texts, strict=False))
    if len(texts) < len(names) and any(text.strip() for text in texts):
        what = LINES_WANTED.get(wanted.problem, "two texts with a tab between them")
        return BrokenRow(place, f"has {len(texts)} part where {what} are needed: write them", columns)
    return replace(example, columns=columns)


def _if_not_blank(row: Row, problem: ProblemName) -> Row:
    """The row, broken where there is nothing to read; the context of choices alone may be blank."""
    if isinstance(row, BrokenRow):
        return row
    texts = row.texts[1:] if problem == "multiple_choice" else row.texts
    if not texts:
        return BrokenRow(row.place, "has no words" if problem == "tagging" else "has no choices", row.columns)
    if problem != "tagging" and not all(map(str.strip, texts)):
        return BrokenRow(row.place, "has an empty text", row.columns)
    return row


def _suffix(name: str) -> str:
    stem = name.lower()
    for ending in COMPRESSED:
        stem = stem.removesuffix(ending)
    return PurePosixPath(stem).suffix
