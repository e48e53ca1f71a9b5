"""Documents as they were read, kept compressed for the passes that follow: a corpus is read and filtered once."""

import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from bertkit.data.any_folder import AnyFolder
from bertkit.data.corpus import RawDocument
from bertkit.data.encode import IntArray
from bertkit.data.heldout import HashArray

BATCH_CHARS: Final = 1 << 20
SCHEMA: Final = pa.schema(
    [("id", pa.string()), ("layout", pa.string()), ("digest", pa.uint64()), ("text", pa.string())]
)
ByteArray = np.ndarray[tuple[int], np.dtype[np.uint8]]


@dataclass(frozen=True)
class SpillIndex:
    """What is known of each document of a part: content hash, characters, bytes of UTF-8; and where batches end."""

    digests: HashArray
    chars: IntArray
    bytes: IntArray
    batch_ends: IntArray


class Spill:
    """Writes the documents of part number `part`; they are there when the block ends well."""

    def __init__(self, folder: AnyFolder, part: int) -> None:
        self._folder, self._part = folder, part
        self._digests, self._chars, self._bytes = array("Q"), array("q"), array("q")
        self._batch_ends = array("q")
        self._waiting: list[RawDocument] = []
        self._waiting_chars = 0

    def __enter__(self) -> Self:
        self._local = tempfile.TemporaryDirectory()
        self._file = Path(self._local.name) / "spill.arrow"
        self._writer = pa.ipc.new_file(str(self._file), SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd"))
        return self

    def add(self, document: RawDocument) -> None:
        """Keep one document."""
        self._digests.append(document.digest)
        self._chars.append(len(document.text))
        self._bytes.append(len(document.text.encode()))
        self._waiting.append(document)
        self._waiting_chars += len(document.text)
        if self._waiting_chars >= BATCH_CHARS:
            self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._local:
            with self._writer:
                self._flush()
            if kind is None:
                self._folder.put(self._file, _texts_of(self._part))
                self._folder.write_arrays(
                    _index_of(self._part),
                    digests=np.array(self._digests, np.uint64),
                    chars=np.array(self._chars, np.int64),
                    bytes=np.array(self._bytes, np.int64),
                    batch_ends=np.array(self._batch_ends, np.int64),
                )

    def _flush(self) -> None:
        if self._waiting:
            columns = zip(*((d.id, d.layout, d.digest, d.text) for d in self._waiting), strict=True)
            arrays: list[Any] = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
            self._writer.write_batch(pa.record_batch(arrays, SCHEMA))
            self._batch_ends.append(len(self._digests))
        self._waiting, self._waiting_chars = [], 0


def read_index(folder: AnyFolder, part: int) -> SpillIndex:
    """What is known of the documents of a part, without reading them."""
    return SpillIndex(**folder.read_arrays(_index_of(part)))


def read_spilled(
    folder: AnyFolder, part: int, wanted: ByteArray, *, first: int = 0
) -> Iterator[tuple[int, RawDocument]]:
    """Place and document, for those of a part from number `first` on where `wanted` is not 0."""
    ends = folder.read_arrays(_index_of(part))["batch_ends"]
    with folder.opened(_texts_of(part)) as file:
        reader = pa.ipc.open_file(file)
        for number, (begin, end) in enumerate(pairwise([0, *ends.tolist()])):
            chosen = begin + np.flatnonzero(wanted[begin:end])
            chosen = chosen[chosen >= first]
            if len(chosen):
                batch = reader.get_batch(number)
                yield from ((place, _document(batch, place - begin)) for place in chosen.tolist())


def _document(batch: Any, row: int) -> RawDocument:
    values = {name: batch.column(name)[row].as_py() for name in SCHEMA.names}
    return RawDocument(values["id"], values["text"], values["layout"], values["digest"])


def _texts_of(part: int) -> str:
    return f"texts-{part:05d}.arrow"


def _index_of(part: int) -> str:
    return f"index-{part:05d}.npz"
