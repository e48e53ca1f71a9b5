"""Have I met this text before? Answered from 8-byte hashes in arrays, in bounded memory."""

from array import array
from typing import Final

import numpy as np
import xxhash

HashArray = np.ndarray[tuple[int], np.dtype[np.uint64]]

RECENT_HASHES: Final = 1 << 20
SAMPLED_HASHES: Final = 1 << 22


def hash_text(text: str) -> int:
    """64-bit hash of a text, whatever its white space."""
    return xxhash.xxh3_64_intdigest(" ".join(text.split()).encode())


class SeenHashes:
    """A growing set of 64-bit hashes: 8 bytes each, apart from the most recent million."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted = np.empty(0, dtype=np.uint64)

    def add(self, digest: int) -> bool:
        """Add one hash; True when it was not there yet."""
        if digest in self._recent or contains(self._sorted, digest):
            return False
        self._recent.add(digest)
        if len(self._recent) >= RECENT_HASHES:
            self._sorted = np.union1d(self._sorted, np.fromiter(self._recent, dtype=np.uint64))
            self._recent.clear()
        return True


def contains(sorted_hashes: HashArray, digest: int) -> bool:
    """Whether a sorted array holds this hash."""
    position = int(np.searchsorted(sorted_hashes, np.uint64(digest)))
    return position < len(sorted_hashes) and int(sorted_hashes[position]) == digest


class RepeatedShare:
    """The share of repeated hashes: exact for the first four million, then from an even sample of the distinct ones."""

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._mask = 0

    def add(self, digest: int) -> None:
        """Count one hash."""
        # Sampling by the hash itself keeps all copies of a kept one, so the share stays right.
        if digest & self._mask:
            return
        self._hashes.append(digest)
        if len(self._hashes) >= SAMPLED_HASHES:
            self._sample(self._mask << 1 | 1)

    def merge(self, hashes: HashArray, mask: int) -> None:
        """Count what another one has counted: its `sample` and `mask`."""
        self._sample(self._mask | mask)
        self._hashes.frombytes(hashes[hashes & np.uint64(self._mask) == 0].tobytes())
        while len(self._hashes) >= SAMPLED_HASHES:
            self._sample(self._mask << 1 | 1)

    @property
    def sample(self) -> HashArray:
        """The hashes kept: those that share no bit with `mask`."""
        return np.array(self._hashes, dtype=np.uint64)

    @property
    def mask(self) -> int:
        """All ones, one for each time the sample was halved."""
        return self._mask

    def share(self) -> float:
        """Share of hashes that were copies of an earlier one, between 0 and 1."""
        return 1 - len(np.unique(self.sample)) / len(self._hashes) if self._hashes else 0.0

    def _sample(self, mask: int) -> None:
        kept = self.sample
        self._hashes, self._mask = array("Q", kept[kept & np.uint64(mask) == 0].tobytes()), mask
