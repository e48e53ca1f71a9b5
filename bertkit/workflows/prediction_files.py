"""Predictions on disk or standard output: tables, JSON lines, Parquet, CoNLL columns, SQuAD's predictions."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal, Protocol

from bertkit.errors import CheckpointError, ConfigError, TaskError
from bertkit.tasks.conll import BLANK, DOCUMENT_START, NO_WORD, SPACES
from bertkit.tasks.spec import ProblemName
from bertkit.tasks.table import find_file
from bertkit.tasks.text_files import read_lines
from bertkit.whole import written_whole
from bertkit.workflows.prediction_fields import AnsweredRow, Fields, as_json, cell_joiner

OutputKind = Literal["csv", "tsv", "jsonl", "parquet", "conll", "squad"]
SUFFIXES: Final[Mapping[str, OutputKind]] = {
    ".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".conll": "conll", ".txt": "conll", ".json": "squad",
}  # fmt: skip
# What standard output gets: the kind that came in where it can be written there.
OF_INPUT: Final[Mapping[str, OutputKind]] = {"csv": "csv", "tsv": "tsv", "conll": "conll"}
ONLY_FOR: Final[Mapping[str, tuple[ProblemName, str]]] = {
    "conll": ("tagging", "a .conll or .txt holds tags of words"),
    "squad": ("span_qa", "a .json holds the answers of questions, as SQuAD's predictions"),
}
ROWS_A_GROUP: Final = 16_384
COLUMNS_NAMED: Final = 5


class Writer(Protocol):
    """Takes rows in order, as many at a time as there are."""

    def write(self, rows: Sequence[AnsweredRow]) -> None:
        """Add rows."""

    def close(self) -> None:
        """All rows are there."""

    def release(self) -> None:
        """Lets go of the file, whether all rows are there or not."""


@dataclass(frozen=True)
class Layout:
    """What a writer goes by: the columns of the input, the fields that are added, and the files that came in."""

    columns: tuple[str, ...]
    fields: Fields
    inputs: tuple[str, ...]
    kinds: tuple[str, ...]

    def require_known(self, rows: Sequence[AnsweredRow]) -> None:
        """Raise TaskError for the first row with a column that the header, made of the rows before it, lacks."""
        known = set(self.columns)
        for row in rows:
            if not row.columns.keys() <= known:
                new = ", ".join(map(repr, sorted(set(row.columns) - known)[:COLUMNS_NAMED]))
                raise TaskError(
                    f"{row.row.place} has {new}, which the rows before it do not have, and a table has one header: "
                    "write a .jsonl instead"
                )


def kind_of_output(output: Path) -> OutputKind:
    """What a file of predictions is, by its suffix.

    Raises:
        ConfigError: the suffix is none of ours, there is such a file already, or no such folder.
    """
    kind = SUFFIXES.get(output.suffix.lower())
    if kind is None:
        raise ConfigError(
            f"--output {output}: its suffix does not say what to write: give one of {', '.join(SUFFIXES)}"
        )
    if output.exists():
        raise ConfigError(f"--output {output} exists already: remove it, or give another name")
    if not output.parent.is_dir():
        raise ConfigError(f"--output {output}: there is no folder {output.parent}: make it first")
    return kind


def require_fitting(kind: OutputKind, problem: ProblemName) -> None:
    """Raise ConfigError for a kind of file that this kind of problem cannot be written to."""
    wanted, reason = ONLY_FOR.get(kind, (problem, ""))
    if problem != wanted:
        raise ConfigError(f"{reason}, and this model does {problem}: write a .csv, .tsv, .jsonl or .parquet")


def open_writer(kind: OutputKind, file: IO[Any], layout: Layout, first: Sequence[AnsweredRow]) -> Writer:
    """The writer of one kind of file; `first` rows show what their columns hold."""
    if kind == "parquet":
        return ParquetFile(file, layout, first)
    if kind == "conll":
        return ConllFile(file, layout)
    if kind == "squad":
        return AnswersFile(file)
    return JsonLines(file, layout) if kind == "jsonl" else TableFile(file, layout, "," if kind == "csv" else "\t")


@contextmanager
def written_aside(output: Path | IO[str], *, binary: bool) -> Iterator[IO[Any]]:
    """A file beside `output` that takes its name once everything is written; or the stream itself.

    Raises:
        CheckpointError: it cannot be written, most often because the disk is full.
    """
    if not isinstance(output, Path):
        yield output
        output.flush()
        return
    try:
        text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "newline": ""}
        with written_whole(output) as aside, aside.open("wb" if binary else "w", **text) as file:
            yield file
    except OSError as error:
        raise CheckpointError(f"{output} cannot be written: {error.strerror}; mend that and run it again") from error


@contextmanager
def unwritten(output: Path | IO[str], *, binary: bool) -> Iterator[IO[Any]]:
    """A place where nothing stays, for a process whose predictions another one writes to `output`."""
    encoding: dict[str, Any] = {} if binary else {"encoding": "utf-8"}
    with Path(os.devnull).open("wb" if binary else "w", **encoding) as file:
        yield file


class TableFile:
    """A .csv or .tsv: a header, a row a line, lists as JSON.

    A .csv quotes cells that hold a comma, a quote or an end of line. In a .tsv quotes are letters, as in GLUE's, and
    enclose only cells that hold a tab or an end of line.
    """

    def __init__(self, file: IO[str], layout: Layout, separator: str) -> None:
        self._file, self._layout, self._separator = file, layout, separator
        self._special = re.compile(r'[",\r\n]' if separator == "," else r"[\t\r\n]").search
        self._joiner = cell_joiner(layout.fields.problem, layout.fields.labels)
        self._write_line([*layout.columns, *layout.fields.types])

    def write(self, rows: Sequence[AnsweredRow]) -> None:
        known, added = self._layout.columns, self._layout.fields.types
        self._layout.require_known(rows)
        for row in rows:
            columns, values = row.columns, self._layout.fields.of_row(row)
            cells = [self._cell(columns.get(name)) for name in known]
            self._write_line([*cells, *(self._added_cell(values.get(name)) for name in added)])

    def close(self) -> None:
        pass

    def release(self) -> None:
        pass

    def _write_line(self, cells: Sequence[str]) -> None:
        quoted = (f'"{cell.replace(QUOTE, QUOTE * 2)}"' if self._special(cell) else cell for cell in cells)
        self._file.write(self._separator.join(quoted) + "\n")

    def _cell(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        if value is None:
            return ""
        return as_json(value) if isinstance(value, bool | list | tuple | dict) else str(value)

    def _added_cell(self, value: Any) -> str:
        if isinstance(value, list) and self._joiner is not None:
            return self._joiner.join(map(str, value))
        return self._cell(value)


QUOTE: Final = '"'


class JsonLines:
    """A .jsonl: the row as it came, and what is added; `error` only where there is one."""

    def __init__(self, file: IO[str], layout: Layout) -> None:
        self._file, self._layout = file, layout

    def write(self, rows: Sequence[AnsweredRow]) -> None:
        for row in rows:
            values = self._layout.fields.of_row(row)
            if taken := values.keys() & row.columns.keys():
                raise TaskError(
                    f"{row.row.place} has a field {min(taken)!r}, which rows before it do not have: rename it, "
                    "for it is the name of what is added"
                )
            self._file.write(as_json({**row.columns, **values}) + "\n")

    def close(self) -> None:
        pass

    def release(self) -> None:
        pass


class ParquetFile:
    """A .parquet whose columns keep the types of a Parquet input, or get those of the first rows."""

    def __init__(self, file: IO[bytes], layout: Layout, first: Sequence[AnsweredRow]) -> None:
        import pyarrow.parquet as pq

        self._layout, self._waiting = layout, list[dict[str, Any]]()
        self._schema = _schema(layout, first)
        self._writer = pq.ParquetWriter(file, self._schema)

    def write(self, rows: Sequence[AnsweredRow]) -> None:
        self._layout.require_known(rows)
        for row in rows:
            values = self._layout.fields.of_row(row)
            for name, kind in self._layout.fields.types.items():
                if kind == "json" and values.get(name) is not None:
                    values[name] = as_json(values[name])
            self._waiting.append({**row.columns, **values})
        if len(self._waiting) >= ROWS_A_GROUP:
            self._write_group()

    def close(self) -> None:
        if self._waiting:
            self._write_group()
        self._writer.close()

    def release(self) -> None:
        # Or it would write its end later, to a file that is closed by then.
        self._writer.close()

    def _write_group(self) -> None:
        import pyarrow as pa

        try:
            self._writer.write_table(table_of(self._waiting, self._schema))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise mixed_columns(error) from error
        self._waiting = []


def _schema(layout: Layout, first: Sequence[AnsweredRow]) -> Any:
    import pyarrow as pa

    types = {
        "text": pa.string(), "json": pa.string(), "number": pa.float64(), "integer": pa.int64(),
        "texts": pa.list_(pa.string()), "numbers": pa.list_(pa.float64()),
    }  # fmt: skip
    columns = input_fields(layout.columns, layout.inputs, layout.kinds, [row.columns for row in first])
    return pa.schema([*columns, *(pa.field(name, types[kind]) for name, kind in layout.fields.types.items())])


def input_fields(
    columns: Sequence[str], inputs: Sequence[str], kinds: Sequence[str], first: Sequence[Mapping[str, Any]]
) -> list[Any]:
    """The Arrow fields of the input's columns: those of a Parquet input, or what the first rows show; text for nothing.

    Raises:
        TaskError: the first rows hold values of several kinds in one column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if kinds and set(kinds) == {"parquet"}:
        with find_file(inputs[0]).open_seekable() as file:
            return list(pq.read_schema(file))
    rows = [{name: row.get(name) for name in columns} for row in first]
    try:
        fields = list(pa.Table.from_pylist(rows).schema)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise mixed_columns(error) from error
    return [pa.field(each.name, pa.string()) if pa.types.is_null(each.type) else each for each in fields]


def table_of(rows: Sequence[Mapping[str, Any]], schema: Any) -> Any:
    """An Arrow table of rows; raises what Arrow raises where a value does not fit its column."""
    import pyarrow as pa

    table = pa.Table.from_pylist(rows, schema=schema)
    for field in schema:
        if "int" in str(field.type):
            # Arrow cuts a fraction off in silence where it is told the type, but never where it finds it out.
            pa.array([row.get(field.name) for row in rows]).cast(field.type)
    return table


def mixed_columns(error: Exception, remedy: str = "write a .jsonl instead") -> TaskError:
    """What to say where rows do not fit the columns that the first of them gave a Parquet file."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return TaskError(f"the rows do not fit the columns of one Parquet file ({reason}): {remedy}")


class ConllFile:
    """The lines of a CoNLL file, each word's with its tag in a column more; of other inputs, words and tags."""

    def __init__(self, file: IO[str], layout: Layout) -> None:
        self._file = file
        if "conll" in layout.kinds and len(layout.inputs) > 1:
            raise ConfigError("a .conll is made of one input: give one, or write a .jsonl")
        self._path = Path(layout.inputs[0]) if "conll" in layout.kinds else None
        self._lines = iter(read_lines(self._path)) if self._path else iter(())
        self._width, self._separator = 0, "\t"

    def write(self, rows: Sequence[AnsweredRow]) -> None:
        for row in rows:
            tags = row.prediction.value if row.prediction is not None else ()
            if self._path is not None:
                self._append_tags(tags)
            else:
                words = row.row.columns["tokens"] if "tokens" in row.row.columns else getattr(row.row, "texts", ())
                lines = [f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=False)]
                self._file.write("".join(lines) + "\n")

    def close(self) -> None:
        rest = list(self._lines)
        # What follows the last line feed is no line.
        for line in rest[:-1] if rest and not rest[-1] else rest:
            self._file.write(line + "\n")

    def release(self) -> None:
        pass

    def _append_tags(self, tags: Sequence[str]) -> None:
        waiting = iter(tags)
        for _ in range(len(tags)):
            line = next(self._lines)
            while not self._is_word(line):
                self._file.write(line + "\n")
                line = next(self._lines)
            self._file.write(f"{line}{self._separator}{next(waiting)}\n")

    def _is_word(self, line: str) -> bool:
        """As `read_conll` judges it, which has refused lines of any other number of columns."""
        if not line.strip(BLANK) or line.startswith(DOCUMENT_START):
            return False
        if not self._width:
            if line.startswith("#"):
                return False
            self._separator = "\t" if "\t" in line else " "
            self._width = len(self._cells(line))
        cells = self._cells(line)
        is_conllu = self._path is not None and self._path.suffix == ".conllu"
        return len(cells) == self._width and not (is_conllu and NO_WORD.fullmatch(cells[0]))

    def _cells(self, line: str) -> list[str]:
        return line.split("\t") if self._separator == "\t" else SPACES.split(line.strip(" "))


class AnswersFile:
    """SQuAD's official predictions: the answer of every question by its id, "" for none."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self._is_first = file, True

    def write(self, rows: Sequence[AnsweredRow]) -> None:
        for row in rows:
            key = row.prediction.key if row.prediction is not None else str(row.columns.get("id", row.row.place))
            answer = row.prediction.value if row.prediction is not None else ""
            self._file.write(("{" if self._is_first else ",") + f"\n  {as_json(key)}: {as_json(answer)}")
            self._is_first = False

    def close(self) -> None:
        self._file.write("{}\n" if self._is_first else "\n}\n")

    def release(self) -> None:
        pass
