"""Rows of .jsonl, .csv and .parquet files and of Hub data sets, each with its place and the text of one column."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Final

from bertkit.data.sources import SourceFile, hub_rows
from bertkit.errors import CorpusError

PARQUET_BATCH_ROWS: Final = 256


@dataclass(frozen=True)
class Row:
    """One row: `place` as a user finds it; `text` is None when the row is broken or holds something else than text."""

    place: str
    text: str | None


def bounded_lines(file: IO[str], *, max_chars: int) -> Iterator[str]:
    """Lines of a file; one longer than `max_chars` comes in pieces, so that no file can fill the memory."""
    return iter(partial(file.readline, max_chars), "")


def read_rows(source: SourceFile, *, column: str, encoding: str, max_chars: int) -> Iterator[Row]:
    """Rows of one file in order.

    Raises CorpusError when the file cannot be read or has no column of that name (the message lists those there are).
    """
    if source.format == "parquet":
        return _parquet_rows(source, column=column)
    if source.format == "csv":
        return _csv_rows(source, column=column, encoding=encoding, max_chars=max_chars)
    return _jsonl_rows(source, column=column, encoding=encoding, max_chars=max_chars)


def read_mappings(rows: Iterable[Any], *, column: str, name: str) -> Iterator[Row]:
    """Rows that are mappings already, such as those of a Hub data set; `name` says where they come from."""
    seen_column = False
    for number, row in enumerate(rows):
        if isinstance(row, dict) and not seen_column:
            _require_column(column, row, name=name)
            seen_column = True
        yield Row(f"{name}:{number + 1}", _text_of(row, column))


def hub_rows_of(location: str, *, column: str) -> Iterator[Row]:
    """Rows of a Hub data set in its own order."""
    return read_mappings(hub_rows(location), column=column, name=location)


def _jsonl_rows(source: SourceFile, *, column: str, encoding: str, max_chars: int) -> Iterator[Row]:
    with source.open_text(encoding) as file:
        # Escapes make a line at most six times longer than its text; other columns are granted a text's length.
        parsed = (_parse_json(line) for line in bounded_lines(file, max_chars=7 * max_chars) if line.strip())
        yield from read_mappings(parsed, column=column, name=source.name)


def _parse_json(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _csv_rows(source: SourceFile, *, column: str, encoding: str, max_chars: int) -> Iterator[Row]:
    # The module's own limit of 131,072 characters a field is one setting for the process, and too low for documents.
    csv.field_size_limit(max(csv.field_size_limit(), max_chars + 1))
    with source.open_text(encoding, newline="") as file:
        header: Sequence[str] = ()
        for line, values in _csv_lines(file, max_chars=7 * max_chars):
            if not header:
                header = values
                _require_column(column, header, name=source.name)
                index = header.index(column)
            else:
                yield Row(f"{source.name}:{line}", values[index] if index < len(values) else None)


def _csv_lines(file: IO[str], *, max_chars: int) -> Iterator[tuple[int, list[str]]]:
    """Every line that is not blank, with its number; one that cannot be read has no values."""
    reader = csv.reader(iter(partial(_csv_line, file, max_chars), ""))
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield reader.line_num, []
            continue
        if values and not (len(values) == 1 and values[0].isspace()):
            yield reader.line_num, values


def _csv_line(file: IO[str], max_chars: int) -> str:
    """The next line; one of more than `max_chars` is passed over and raises csv.Error, as what is no row does."""
    line = file.readline(max_chars)
    if len(line) < max_chars or line.endswith("\n"):
        return line
    while (rest := file.readline(max_chars)) and not rest.endswith("\n"):
        pass
    raise csv.Error(f"line contains more than {max_chars} characters")


def _parquet_rows(source: SourceFile, *, column: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with source.open_seekable() as file:
        try:
            table = pq.ParquetFile(file)
            _require_column(column, table.schema_arrow.names, name=source.name)
            number = 0
            for batch in table.iter_batches(batch_size=PARQUET_BATCH_ROWS, columns=[column]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield Row(f"{source.name}:{number}", _text_of({column: value}, column))
        except (pa.ArrowException, OSError) as error:
            raise CorpusError(f"{source.name} is no whole Parquet file ({error}): mend it or move it away") from error


def _text_of(row: Any, column: str) -> str | None:
    if not isinstance(row, dict) or column not in row:
        return None
    value = row[column]
    return "" if value is None else value if isinstance(value, str) else None


def _require_column(column: str, columns: Iterable[str], *, name: str) -> None:
    names = list(columns)
    if column not in names:
        there = ", ".join(map(repr, names))
        raise CorpusError(f"{name} has no column {column!r}; it has {there}: set data.text_column to one of them")
