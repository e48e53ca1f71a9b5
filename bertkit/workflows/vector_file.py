"""A Parquet file of rows and their vectors, written as they come."""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO, Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bertkit.data.features import Array
from bertkit.errors import TaskError
from bertkit.tasks.spec import Example
from bertkit.tasks.table import BrokenRow
from bertkit.workflows.prediction_files import input_fields, mixed_columns, table_of
from bertkit.workflows.prediction_rows import Row

_REMEDY: Final = "give every row the same columns, with values of one kind"
_OF_SENTENCES, _OF_WORDS, _ERROR, _WORDS = "embedding", "embeddings", "error", "tokens"


class VectorFile:
    """The rows as they came, their vectors of `width` numbers, and what was wrong with those that have none."""

    def __init__(
        self,
        file: IO[bytes],
        inputs: Sequence[str],
        kinds: Sequence[str],
        *,
        width: int,
        of_words: bool,
        half: bool = False,
    ) -> None:
        self._file, self._inputs, self._kinds = file, inputs, kinds
        self._width, self._of_words = width, of_words
        self._number = pa.float16() if half else pa.float32()
        self._writer: Any = None
        self._given: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, rows: Sequence[Row], vectors: Iterator[Array]) -> None:
        """Adds rows; of those that are examples each takes the next of the `vectors`, [1 or words, width].

        Raises:
            TaskError: they do not fit the columns of the rows before, or hold a column of ours already.
        """
        columns = [self._columns(row) for row in rows]
        if self._writer is None:
            self._begin(columns)
        self._require_known(rows, columns)
        found = [next(vectors) if isinstance(row, Example) else None for row in rows]
        try:
            given = table_of(columns, self._given)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise mixed_columns(error, _REMEDY) from error
        added = [self._vectors(found), pa.array([_fault(row) for row in rows], pa.string())]
        self._writer.write_table(pa.Table.from_arrays([*given.columns, *added], schema=self._writer.schema))

    def _columns(self, row: Row) -> Mapping[str, Any]:
        if not self._of_words:
            return row.columns
        return {**row.columns, _WORDS: list(row.texts) if isinstance(row, Example) else None}

    def _begin(self, columns: Sequence[Mapping[str, Any]]) -> None:
        names = list(dict.fromkeys(name for row in columns for name in row))
        vectors = pa.list_(self._number, self._width)
        ours = {_OF_WORDS: pa.list_(vectors)} if self._of_words else {_OF_SENTENCES: vectors}
        ours[_ERROR] = pa.string()
        if taken := [name for name in names if name in ours]:
            raise TaskError(
                f"the input has a column {taken[0]!r} already, which is the name of what is added: rename it"
            )
        fields = input_fields(names, self._inputs, self._kinds, columns)
        if self._of_words:
            fields = [each for each in fields if each.name != _WORDS] + [pa.field(_WORDS, pa.list_(pa.string()))]
        self._given = pa.schema(fields)
        schema = pa.schema([*fields, *(pa.field(name, kind) for name, kind in ours.items())])
        self._writer = pq.ParquetWriter(self._file, schema)

    def _require_known(self, rows: Sequence[Row], columns: Sequence[Mapping[str, Any]]) -> None:
        known = set(self._given.names)
        for row, held in zip(rows, columns, strict=True):
            if not held.keys() <= known:
                new = sorted(set(held) - known)[0]
                raise TaskError(f"{row.place} has {new!r}, which the rows before it do not have: {_REMEDY}")

    def _vectors(self, found: Sequence[Array | None]) -> pa.Array:
        """A column of vectors, or of lists of them; null where there are none."""
        dtype = np.float16 if self._number == pa.float16() else np.float32
        is_null = np.array([each is None for each in found])
        nothing = np.zeros((0 if self._of_words else 1, self._width), dtype)
        given = [nothing if each is None else each.astype(dtype) for each in found]
        flat = pa.array(np.concatenate(given).reshape(-1), self._number)
        if not self._of_words:
            return pa.FixedSizeListArray.from_arrays(flat, self._width, mask=pa.array(is_null))
        bounds = pa.array(np.cumsum([0, *map(len, given)]), pa.int32())
        each_word = pa.FixedSizeListArray.from_arrays(flat, self._width)
        return pa.ListArray.from_arrays(bounds, each_word, mask=pa.array(is_null))


def _fault(row: Row) -> str | None:
    return str(row) if isinstance(row, BrokenRow) else None
