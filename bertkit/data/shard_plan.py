"""Which documents of a corpus read in parts stay, and in which shard each lies: from hashes and sizes alone."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bertkit.data.encode import IntArray
from bertkit.data.heldout import HashArray, choose_heldout
from bertkit.data.spill import ByteArray, SpillIndex

DROPPED: Final = 0
FATES: Final = {"train": 1, "heldout": 2}


@dataclass(frozen=True)
class Documents:
    """[D] content hashes and characters of all documents, part by part, and how many each part holds."""

    digests: HashArray
    chars: IntArray
    in_part: IntArray

    @classmethod
    def of(cls, indexes: Iterable[SpillIndex]) -> "Documents":
        """Put what is known of the parts together, without holding it twice."""
        digests, chars, in_part = array("Q"), array("q"), array("q")
        for index in indexes:
            digests.frombytes(index.digests.tobytes())
            chars.frombytes(index.chars.tobytes())
            in_part.append(len(index.digests))
        return cls(np.asarray(digests, np.uint64), np.asarray(chars, np.int64), np.asarray(in_part, np.int64))

    @property
    def begins(self) -> IntArray:
        """[P + 1] where each part begins among all documents."""
        return np.concatenate([[0], np.cumsum(self.in_part)])


@dataclass(frozen=True)
class Choice:
    """[D] what becomes of each document: DROPPED, or the number of its split in FATES."""

    fates: ByteArray
    heldout: HashArray
    duplicates: int
    near_duplicates: int


@dataclass(frozen=True)
class PlannedShard:
    """One file of a split: it holds all the split's documents from (part, row) `first` to `last`."""

    split: str
    number: int
    chars: int
    first: tuple[int, int]
    last: tuple[int, int]


def choose_documents(documents: Documents, removed: Iterable[IntArray], *, heldout_share: float) -> Choice:
    """Keep the first copy of every document; `removed` are the rows of each part that near-duplicates take away.

    Memory: about 50 bytes a document while copies are looked for, 17 before and after.
    """
    near = np.zeros(len(documents.digests), np.bool_)
    for rows, part in zip(removed, split_parts(near, documents), strict=True):
        part[rows] = True
    # Near-duplicates go first: of two equal documents they take one, and exact copies must not take the other.
    kept = _first_copies(documents.digests, np.flatnonzero(~near))
    heldout = choose_heldout(documents.digests[kept], documents.chars[kept], share=heldout_share)
    fates = np.zeros(len(near), np.uint8)
    fates[kept] = np.where(np.isin(documents.digests[kept], heldout), FATES["heldout"], FATES["train"])
    near_duplicates = int(near.sum())
    return Choice(fates, heldout, duplicates=len(near) - near_duplicates - len(kept), near_duplicates=near_duplicates)


def split_parts(values: Any, documents: Documents) -> list[Any]:
    """Views of an array of all documents, a part each."""
    return np.split(values, documents.begins[1:-1])


def plan_shards(fates: ByteArray, documents: Documents, *, shard_chars: int) -> Iterator[PlannedShard]:
    """The shards that `cut_shards` gathers when it sees all documents one by one."""
    begins = documents.begins

    def place(row: int) -> tuple[int, int]:
        part = int(np.searchsorted(begins, row, side="right")) - 1
        return part, row - int(begins[part])

    for split, fate in FATES.items():
        rows = np.flatnonzero(fates == fate)
        ends = np.cumsum(documents.chars[rows])
        start = number = done = 0
        while start < len(rows):
            last = min(int(np.searchsorted(ends, done + shard_chars)), len(rows) - 1)
            yield PlannedShard(split, number, int(ends[last]) - done, place(int(rows[start])), place(int(rows[last])))
            start, number, done = last + 1, number + 1, int(ends[last])


def _first_copies(digests: HashArray, rows: IntArray) -> IntArray:
    """Those of `rows` whose document comes first among them, in order."""
    order = np.argsort(digests[rows], kind="stable")
    in_order = digests[rows[order]]
    is_first = np.ones(len(rows), np.bool_)
    is_first[1:] = in_order[1:] != in_order[:-1]
    return np.sort(rows[order[is_first]])
