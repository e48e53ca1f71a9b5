"""The files of a store's shards, opened as memory maps and compared with the manifest before anything trusts them."""

from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import xxhash

from bertkit.data.manifest import ShardInfo
from bertkit.errors import CorpusError


class ShardFiles(Protocol):
    """Wherever the shards of a store lie."""

    folder: Path

    def open(self, info: ShardInfo) -> Any:
        """A memory map of a shard; what is read from it stays mapped after it is closed."""


class LocalShards:
    """Shards in a folder; each is hashed the first time it is opened through this object, at memory speed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._intact: set[str] = set()

    def open(self, info: ShardInfo) -> Any:
        """A memory map of a shard.

        Raises:
            CorpusError: its bytes are not those that were prepared.
            OSError: it cannot be opened.
        """
        mapped = pa.memory_map(str(self.folder / info.name))
        if info.name not in self._intact:
            if not is_intact(mapped, info):
                mapped.close()
                raise CorpusError(
                    f"{self.folder / info.name} is damaged, its bytes are not those that were prepared: put a good "
                    f"copy in its place, or delete {self.folder.parent} and prepare the corpus again"
                )
            self._intact.add(info.name)
        return mapped


def is_intact(mapped: Any, info: ShardInfo) -> bool:
    """Whether a memory map holds the bytes the manifest tells of."""
    if mapped.size() != info.size:
        return False
    mapped.seek(0)
    is_equal = xxhash.xxh3_128_hexdigest(mapped.read_buffer()) == info.hash
    mapped.seek(0)
    return is_equal
