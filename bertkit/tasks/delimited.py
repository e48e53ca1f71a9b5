"""Lines of .csv and .tsv files as cells, each with the number an editor shows; what is no row says why."""

import csv
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import IO, Final

from bertkit.errors import TaskError

logger = logging.getLogger(__name__)

# No file can fill the memory: a line longer than this is no row of a table.
LONGEST_LINE_CHARS: Final = 1 << 24
# What is looked at to tell a quoted .tsv from one whose quotes are letters.
SAMPLE_CHARS: Final = 1 << 16
SEPARATORS: Final = (",", ";", "\t")
DOUBLED_QUOTE: Final = re.compile(r'"(?:[^"]|"")*""(?:[^"]|"")*"')
CSV_REASONS: Final = {
    "unexpected end of data": "opens a quote that is never closed, so nothing after it can be read: close it, "
    "or double the quotes that belong to the text",
    "field larger": "opens a quote that is not closed for millions of characters: close it, "
    "or double the quotes that belong to the text",
    "expected after": "has text after a closing quote: double the quotes that belong to the text",
}


@dataclass(frozen=True)
class Cells:
    """The cells of one row, the line it starts on, and, where it is broken, what is wrong."""

    line: int
    values: Sequence[str]
    broken: str = ""


def read_cells(file: IO[str], *, tab_separated: bool, name: str) -> Iterator[Cells]:
    """Rows of an open file in order, blank lines left out.

    Quotes in tab-separated files are letters, as in GLUE's, unless the file is clearly quoted (see `_is_quoted`).
    Raises TaskError for a line that is no row of any table.
    """
    lines = bounded_lines(file, name=name)
    sample = _sample(lines)
    lines = chain(sample, lines)
    if not tab_separated:
        return _quoted_cells(lines, separator=_separator(sample, name=name))
    if _is_quoted(sample):
        logger.info("%s", f"{name}: quotes enclose cells, as in a .csv")
        return _quoted_cells(lines, separator="\t")
    return _literal_cells(lines)


def bounded_lines(file: IO[str], *, name: str) -> Iterator[str]:
    """Lines of an open file, ends of lines included.

    Raises TaskError for one that is longer than any row.
    """
    for number, line in enumerate(iter(partial(file.readline, LONGEST_LINE_CHARS), ""), start=1):
        if len(line) == LONGEST_LINE_CHARS and not line.endswith("\n"):
            raise TaskError(
                f"{name}:{number} is longer than {LONGEST_LINE_CHARS:,} characters, which is no row of a table: "
                "give a file with one row a line"
            )
        yield line


def _sample(lines: Iterator[str]) -> list[str]:
    sample, chars = [], 0
    while chars < SAMPLE_CHARS and (line := next(lines, "")):
        sample.append(line)
        chars += len(line)
    return sample


def _separator(sample: Sequence[str], *, name: str) -> str:
    """A comma; what else a spreadsheet writes only where the first line has no comma at all."""
    first = sample[0] if sample else ""
    separator = next((separator for separator in SEPARATORS if separator in first), ",")
    if separator != ",":
        logger.info("%s", f"{name}: cells are separated by {separator!r}, for its first line has no comma")
    return separator


def _quoted_cells(lines: Iterable[str], *, separator: str) -> Iterator[Cells]:
    # The module's own limit of 131,072 characters a field is one setting for the process, and too low for documents.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE_CHARS))
    # Not strict, the module takes a quote that is never closed for a cell that holds the rest of the file.
    reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Cells(line, [], broken=_csv_reason(str(error)))
            continue
        if values and not (len(values) == 1 and values[0].isspace()):
            yield Cells(line, values)


def _csv_reason(message: str) -> str:
    known = (reason for part, reason in CSV_REASONS.items() if part in message)
    return next(known, f"cannot be read ({message}): mend the line")


def _literal_cells(lines: Iterable[str]) -> Iterator[Cells]:
    for number, line in enumerate(lines, start=1):
        content = line.rstrip("\r\n")
        if content:
            yield Cells(number, content.split("\t"))


def _is_quoted(sample: Sequence[str]) -> bool:
    """Whether quotes enclose cells: only so is the file regular, or a cell doubles its quotes, or the header is quoted.

    GLUE's quotes are letters: the default dialect of Python merges MRPC's 3669 lines into 3571.
    """
    if not any('"' in line for line in sample):
        return False
    rows = list(_quoted_cells(sample, separator="\t"))
    # The end of the sample may cut a cell in two.
    if rows and rows[-1].broken == CSV_REASONS["unexpected end of data"] and len(rows) > 1:
        rows.pop()
    if any(row.broken for row in rows) or len({len(row.values) for row in rows}) != 1:
        return False
    literal = list(_literal_cells(sample))
    header_quoted = all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in literal[0].values)
    doubled = any(DOUBLED_QUOTE.fullmatch(cell) for row in literal for cell in row.values)
    return header_quoted or doubled or len({len(row.values) for row in literal}) != 1
