"""How often every word of a text occurs, in bounded memory, so that a vocabulary can be trained from counts alone."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from bertkit.data.tokenizer import WordPieceOptions, word_splitter

WordCount = tuple[str, int]

REMEMBERED_CHUNKS: Final = 1 << 18
ROWS_A_BATCH: Final = 4096
# Files merged at once: far below the number a process may hold open.
MERGED_AT_ONCE: Final = 64
SCHEMA: Final = pa.schema([("word", pa.string()), ("count", pa.int64())])


class WordCounts:
    """Counts the words that WordPiece training sees in texts; beyond a quarter million they go to files in `folder`."""

    def __init__(self, folder: Path, options: WordPieceOptions) -> None:
        self._folder = folder
        self._split = word_splitter(options)
        self._chunks: Counter[str] = Counter()
        self._runs: list[Path] = []

    def add(self, text: str) -> None:
        """Count the words of one text."""
        # Only at these is a cut certain to change no word: other white space the normaliser may delete or join.
        self._chunks.update(text.replace("\n", " ").replace("\t", " ").replace("\r", " ").split(" "))
        if len(self._chunks) > REMEMBERED_CHUNKS:
            self._flush()

    def save(self, path: Path) -> None:
        """Write all counts to a file, the words in the order of their code points."""
        self._flush()
        write_counts(path, merge_counts(self._runs, folder=self._folder))

    def _flush(self) -> None:
        words: Counter[str] = Counter()
        for chunk, count in self._chunks.items():
            for word in self._split(chunk):
                words[word] += count
        self._chunks.clear()
        self._runs.append(self._folder / f"run-{len(self._runs):05d}.arrow")
        write_counts(self._runs[-1], sorted(words.items()))


def write_counts(path: Path, counts: Iterable[WordCount]) -> None:
    """Write words and counts as they come."""
    rows = iter(counts)
    with pa.ipc.new_file(str(path), SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        while batch := list(islice(rows, ROWS_A_BATCH)):
            words, numbers = zip(*batch, strict=True)
            writer.write_batch(pa.record_batch([pa.array(words, pa.string()), pa.array(numbers, pa.int64())], SCHEMA))


def read_counts(path: Path) -> Iterator[WordCount]:
    """Words and counts of a file, little of it in memory at a time."""
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            columns: Any = reader.get_batch(number)
            yield from zip(columns["word"].to_pylist(), columns["count"].to_pylist(), strict=True)


def merge_counts(paths: Sequence[Path], *, folder: Path) -> Iterator[WordCount]:
    """The sums of files that are each sorted by word; `folder` takes files in between when there are many."""
    level = 0
    while len(paths) > MERGED_AT_ONCE:
        merged = []
        for first in range(0, len(paths), MERGED_AT_ONCE):
            merged.append(folder / f"merged-{level}-{first:05d}.arrow")
            write_counts(merged[-1], _merge(paths[first : first + MERGED_AT_ONCE]))
        paths, level = merged, level + 1
    return _merge(paths)


def _merge(paths: Sequence[Path]) -> Iterator[WordCount]:
    for word, same in groupby(heapq.merge(*map(read_counts, paths)), key=itemgetter(0)):
        yield word, sum(count for _, count in same)
