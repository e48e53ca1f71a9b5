"""Rows of the user's own CSV, TSV, JSONL and Parquet files, one at a time, each with the place it is found at."""

import json
import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from bertkit.data.dropped import Dropped
from bertkit.data.sources import COMPRESSED, SourceFile, find_files
from bertkit.errors import CorpusError, TaskError
from bertkit.tasks.delimited import Cells, bounded_lines, read_cells

FORMATS: Final = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
FORMATS_NAMED: Final = ".csv, .tsv, .jsonl, .json or .parquet (plain, .gz, .bz2, .xz or .zst)"
PARQUET_BATCH_ROWS: Final = 256
NOT_UTF8: Final = "if it is text in another encoding, convert it: iconv -f LATIN1 -t UTF-8"
BINARY: Final = "holds NUL characters, so it is binary or UTF-16: export it as text, or iconv -f UTF-16 -t UTF-8"


@dataclass(frozen=True)
class TableRow:
    """One row as it was read: values by the name of their column. `place` is such as train.csv:17."""

    place: str
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class BrokenRow:
    """A row that cannot be used; "`place` `reason`" is the sentence that says why and what to do."""

    place: str
    reason: str
    columns: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.place} {self.reason}"


def read_table(path: str, *, asked: Sequence[str] = ()) -> Generator[TableRow | BrokenRow, None, None]:
    """Stream the rows of a file in UTF-8; broken ones come as `BrokenRow`, in their turn.

    asked: names of columns that will be looked for. Where all of them are numbers and the first line of a .csv or .tsv
    lacks one of them, the file has no header and its columns go by their number, from 0.
    Raises TaskError when the file as a whole cannot be read.
    """
    source = find_file(path)
    file_format = format_of(source.name)
    if file_format is None:
        raise TaskError(f"{source.name} has no suffix that says what it is: give a {FORMATS_NAMED} file")
    with errors_named():
        if file_format == "parquet":
            yield from _parquet_rows(source)
        elif file_format in ("csv", "tsv"):
            yield from _delimited_rows(source, tab_separated=file_format == "tsv", asked=asked)
        elif file_format == "json" and is_json_array(source):
            yield from _array_rows(source)
        else:
            yield from _line_rows(source)


def find_file(path: str) -> SourceFile:
    """The one file at a path or URL.

    Raises TaskError for a folder, for nothing, and for what cannot be reached.
    """
    if _is_folder(path):
        raise TaskError(f"{path!r} is a folder: give one file, {FORMATS_NAMED}")
    with errors_named():
        files = find_files(path, Dropped())
    if not files:
        raise TaskError(f"there is no file {path!r}: check the path")
    if len(files) > 1:
        raise TaskError(f"{path!r} stands for {len(files):,} files: give one of them")
    return files[0]


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:
        return False


def format_of(name: str) -> str | None:
    """What the suffix of a file says it is, compressed or not; None where it says nothing."""
    stem = name.lower()
    for suffix in COMPRESSED:
        stem = stem.removesuffix(suffix)
    return FORMATS.get(PurePosixPath(stem).suffix)


def is_json_array(source: SourceFile) -> bool:
    """Whether the first character that is no space is a bracket.

    Raises TaskError when the file cannot be read.
    """
    with errors_named(), source.open_text("utf-8") as file:
        while block := file.read(4096):
            if text := block.lstrip():
                return text[0] == "["
    return False


@contextmanager
def errors_named() -> Iterator[None]:
    """Hand on what the corpus' files say as TaskError: the sentences are the same."""
    try:
        yield
    except CorpusError as error:
        raise TaskError(str(error)) from error


def text_fault(text: str) -> str:
    """Why these characters are no text, as a reason of a broken row; empty where they are."""
    if "\0" in text:
        return BINARY
    if text.isascii():
        return ""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"{_character_fault(ord(text[error.start]))}, at character {error.start + 1}: {NOT_UTF8}"
    return ""


def _character_fault(code: int) -> str:
    # Bytes that do not decode were read as the characters U+DC80 to U+DCFF; JSON may escape half a pair.
    if 0xDC80 <= code <= 0xDCFF:
        return f"holds the byte 0x{code - 0xDC00:02x}, which is not UTF-8"
    return f"holds half of a surrogate pair (U+{code:04X}), which is no character"


def _delimited_rows(source: SourceFile, *, tab_separated: bool, asked: Sequence[str]) -> Iterator[TableRow | BrokenRow]:
    # Editors count lines by \n; the csv module wants its own ends of lines untouched.
    with source.open_text("utf-8", newline="\n" if tab_separated else "") as file:
        rows = read_cells(file, tab_separated=tab_separated, name=source.name)
        first = next(rows, None)
        if first is None:
            raise TaskError(f"{source.name} is empty: give a file with a header and one row an example")
        header, has_header = _header(first, source.name, asked)
        if not has_header:
            yield _row_of(first, header, source.name)
        for row in rows:
            yield _row_of(row, header, source.name)


def _header(first: Cells, name: str, asked: Sequence[str]) -> tuple[Sequence[str], bool]:
    if fault := first.broken or text_fault("\t".join(first.values)):
        raise TaskError(f"{name}:{first.line} {fault}")
    values = [value.strip() for value in first.values]
    if asked and all(column.isdecimal() for column in asked) and not set(asked) <= set(values):
        return [str(number) for number in range(len(values))], False
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise TaskError(
            f"{name}:{first.line} has {_times(values.count(twice[0]))} columns named {twice[0]!r}: rename one, "
            "or, if the first line is no header, give the columns by number, from 0"
        )
    return values, True


def _times(count: int) -> str:
    return "two" if count == 2 else f"{count}"


def _row_of(row: Cells, header: Sequence[str], name: str) -> TableRow | BrokenRow:
    place = f"{name}:{row.line}"
    if row.broken:
        return BrokenRow(place, row.broken)
    columns = dict(zip(header, row.values, strict=False))
    if fault := text_fault("\t".join(row.values)):
        return BrokenRow(place, fault)
    if len(row.values) != len(header):
        return BrokenRow(
            place,
            f"has {_cells(len(row.values))} where the first line has {len(header)}: "
            "add what is missing, or quote the cells that hold a separator",
            columns,
        )
    return TableRow(place, columns)


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _line_rows(source: SourceFile) -> Iterator[TableRow | BrokenRow]:
    num_rows = 0
    with source.open_text("utf-8") as file:
        for number, line in enumerate(bounded_lines(file, name=source.name), start=1):
            if line.strip():
                num_rows += 1
                yield row_of_line(line, f"{source.name}:{number}")
    if not num_rows:
        raise TaskError(f"{source.name} is empty: give a file with one JSON object a line")


def row_of_line(line: str, place: str) -> TableRow | BrokenRow:
    """The row that one line of JSON means, broken where it means none."""
    if fault := text_fault(line):
        return BrokenRow(place, fault)
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        return BrokenRow(
            place, f"is no JSON ({error.msg}, at character {error.pos + 1}): write one whole object on every line"
        )
    except (ValueError, RecursionError) as error:
        return BrokenRow(place, f"is no JSON that can be read ({error}): mend the line")
    return _object_row(value, place, may_escape="\\ud" in line.lower())


def _object_row(value: Any, place: str, *, may_escape: bool = True) -> TableRow | BrokenRow:
    if not isinstance(value, dict):
        return BrokenRow(place, f"holds {kind_of(value)}, not an object: write names and values, in braces")
    if may_escape and (fault := _escape_fault(value)):
        return BrokenRow(place, fault)
    return TableRow(place, value)


def _escape_fault(value: Mapping[str, Any]) -> str:
    try:
        return text_fault(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        return "is nested too deeply: write one flat object on every line"


def kind_of(value: Any) -> str:
    """What a value is, in the words of a user."""
    if value is None:
        return "nothing (null)"
    kinds = (
        (bool, "true or false"),
        (int | float, "a number"),
        (str, "text"),
        (list | tuple, "a list"),
        (dict, "an object"),
    )
    return next((kind for of, kind in kinds if isinstance(value, of)), f"a {type(value).__name__}")


def _array_rows(source: SourceFile) -> Iterator[TableRow | BrokenRow]:
    """The items of one JSON array, read whole; the place of each is the line it starts on."""
    with source.open_text("utf-8") as file:
        text = file.read()
    if fault := text_fault(text):
        raise TaskError(f"{source.name} {fault}")
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise TaskError(
            f"{source.name}:{error.lineno} is no JSON ({error.msg}, at character {error.colno}): mend the line"
        ) from error
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{source.name} is no JSON that can be read ({error}): mend the file") from error
    if not items:
        raise TaskError(f"{source.name} is empty: give an array of one object an example")
    for line, item in zip(_item_lines(text), items, strict=True):
        yield _object_row(item, f"{source.name}:{line}")


def _item_lines(text: str) -> Iterator[int]:
    decoder, between = json.JSONDecoder(), re.compile(r"[\s,]*")
    position, line, counted = text.index("[") + 1, 1, 0
    while True:
        match = between.match(text, position)
        position = match.end() if match else position
        if text[position] == "]":
            return
        line += text.count("\n", counted, position)
        counted = position
        yield line
        position = decoder.raw_decode(text, position)[1]


def _parquet_rows(source: SourceFile) -> Iterator[TableRow | BrokenRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    with source.open_seekable() as file:
        try:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=PARQUET_BATCH_ROWS):
                for columns in batch.to_pylist():
                    number += 1
                    yield TableRow(f"{source.name}:{number}", columns)
        except (pa.ArrowException, OSError, ValueError, OverflowError, ImportError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TaskError(
                f"{source.name} cannot be read as Parquet after row {number:,} ({reason}): write the file anew"
            ) from error
    if not number:
        raise TaskError(f"{source.name} has no rows: give a file with one row an example")
