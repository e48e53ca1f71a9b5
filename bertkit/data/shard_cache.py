"""Stores that lie elsewhere: opened through fsspec, their shards fetched when they are read, the latest used ones kept.

Of a store, whatever its URL, `CACHE/HASH_OF_MANIFEST/` holds the small files and, in `shards/`, what has been fetched.
All processes of a machine share the folder: a file appears there whole, under a lock that spares fetching it twice. One
that is deleted to make room stays readable where it is mapped. (fsspec's own caches check no hash and are not bounded.)
"""

import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fsspec
import pyarrow as pa
import xxhash
from filelock import FileLock

from bertkit.data.manifest import MANIFEST_FILE, PREPARING_FILE, ShardInfo
from bertkit.data.shard_files import is_intact
from bertkit.errors import DISK_FULL, CorpusError, redacted

logger = logging.getLogger(__name__)

SHARD_FOLDER: Final = "shards"
PARTIAL: Final = ".partial"
# What a killed process left half fetched; no fetch takes so long.
ABANDONED_S: Final = 24 * 3600
# Another process may need the room of a file between its fetching and its opening.
ATTEMPTS: Final = 10


def default_cache_folder() -> Path:
    """`bertkit` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "bertkit" / "stores"


@dataclass(frozen=True)
class StoreCache:
    """A folder for the shards of remote stores, and the bytes it may hold; the least recently used ones make room."""

    folder: Path = field(default_factory=default_cache_folder)
    max_bytes: int = 20_000_000_000

    def make_room(self, num_bytes: int) -> None:
        """Deletes shards, of whatever store, until `num_bytes` more fit."""
        files = sorted(_used_files(self.folder))
        held = sum(size for _, size, _ in files)
        for used_s, size, name in files:
            is_partial = name.endswith(PARTIAL)
            if is_partial and time.time() - used_s < ABANDONED_S:
                continue
            if is_partial or held + num_bytes > self.max_bytes:
                with suppress(OSError):  # Windows deletes no file that is mapped
                    Path(name).unlink(missing_ok=True)
                    held -= size


class RemoteStore:
    """The files of a store at a URL that fsspec opens.

    Raises:
        CorpusError: whenever a file is missing or cannot be reached.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        with self._reaching():
            self._filesystem, root = fsspec.core.url_to_fs(location)
            self._root = root.rstrip("/")

    def manifest(self) -> bytes:
        """The bytes of `manifest.json`."""
        with self._reaching():
            try:
                return bytes(self._filesystem.cat_file(f"{self._root}/{MANIFEST_FILE}"))
            except FileNotFoundError:
                is_unfinished = self._filesystem.exists(f"{self._root}/{PREPARING_FILE}")
        if is_unfinished:
            raise CorpusError(f"the token store at {self.location} is not finished: let its bertkit prepare end first")
        raise CorpusError(
            f"there is no token store at {self.location}: make one with bertkit prepare CORPUS, and copy it there"
        )

    def names_in(self, folder: str) -> list[str]:
        """The names of the files in one folder of the store."""
        with self._reaching():
            return [Path(path).name for path in self._filesystem.find(f"{self._root}/{folder}", maxdepth=1)]

    def fetch(self, name: str, path: Path, info: ShardInfo | None = None) -> None:
        """Copies a file to `path`, which appears whole or not at all; a shard is compared with the manifest first."""
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
        try:
            with self._reaching(name):
                self._filesystem.get_file(f"{self._root}/{name}", str(aside))
            if info is not None and not _holds(aside, info):
                raise CorpusError(
                    f"{name} at {self.location} is not the file its manifest tells of, so it was changed or damaged: "
                    "copy the store there again, or prepare the corpus again"
                )
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)

    @contextmanager
    def _reaching(self, name: str | None = None) -> Iterator[None]:
        """Turns what any file system raises into an error that says what to do."""
        try:
            yield
        except FileNotFoundError as error:
            raise CorpusError(
                f"{name} is missing at {self.location}: copy the store there again, or prepare the corpus again"
            ) from error
        except ImportError as error:
            raise CorpusError(f"{self.location}: {error}, or give the path of a local copy") from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK_FULL:
                raise  # of our own disk
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise CorpusError(
                f"the token store at {self.location} cannot be reached ({reason}): check the address, your access and "
                "the network, or give the path of a local copy; a run that had begun goes on from its last checkpoint"
            ) from error


class CachedShards:
    """Shards of a remote store, fetched into a cache when they are first opened there."""

    def __init__(self, store: RemoteStore, folder: Path, cache: StoreCache) -> None:
        self.folder = folder / SHARD_FOLDER
        self._store = store
        self._cache = cache
        self._lock = FileLock(folder / ".lock")
        self._intact: set[str] = set()

    def open(self, info: ShardInfo) -> Any:
        """A memory map of a shard.

        Raises:
            CorpusError: it is missing, changed or out of reach, or the cache cannot hold it.
        """
        path = self.folder / info.name
        for _ in range(ATTEMPTS):
            try:
                mapped = pa.memory_map(str(path))
            except FileNotFoundError:
                self._fetch(info, path)
                continue
            if info.name in self._intact or is_intact(mapped, info):
                self._intact.add(info.name)
                with suppress(OSError):  # gone again, which harms nobody who has it mapped
                    os.utime(path)
                return mapped
            # Damaged on this disk only: what lies elsewhere is compared when it comes.
            mapped.close()
            path.unlink(missing_ok=True)
        raise CorpusError(f"the cache {self._cache.folder} is too small for what is read at once: raise data.cache_gb")

    def _fetch(self, info: ShardInfo, path: Path) -> None:
        with cache_named(self._cache), self._lock:
            if not path.exists():
                self._cache.make_room(info.size)
                self._store.fetch(f"{SHARD_FOLDER}/{info.name}", path, info)


def mirror(store: RemoteStore, cache: StoreCache, *, files: tuple[str, ...], folders: tuple[str, ...]) -> Path:
    """Fetches everything but the shards of a store into the cache, unless it lies there; returns where.

    The folder is named by the manifest, so a store that was made anew at the same URL gets another one.

    Raises:
        CorpusError: it is missing, not finished or out of reach, or the cache cannot be written.
    """
    manifest = store.manifest()
    folder = cache.folder / xxhash.xxh3_128_hexdigest(manifest)
    with cache_named(cache):
        (folder / SHARD_FOLDER).mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            if not (folder / MANIFEST_FILE).is_file():
                logger.info("%s", redacted(f"shards of the token store at {store.location} are kept in {folder}"))
                names = [*files, *(f"{each}/{name}" for each in folders for name in store.names_in(each))]
                for name in names:
                    (folder / name).parent.mkdir(exist_ok=True)
                    store.fetch(name, folder / name)
                # Last: it says that the others are there.
                aside = folder / f".{MANIFEST_FILE}{PARTIAL}"
                aside.write_bytes(manifest)
                aside.replace(folder / MANIFEST_FILE)
    return folder


@contextmanager
def cache_named(cache: StoreCache) -> Iterator[None]:
    """Turns what the system says against the cache folder into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise CorpusError(
            f"the cache {cache.folder} cannot be written ({error.strerror or error}): free some space, lower "
            "data.cache_gb, or name another folder in data.cache_dir"
        ) from error


def _used_files(folder: Path) -> Iterator[tuple[float, int, str]]:
    """When each shard in the cache was last used, its bytes, and where it lies."""
    for shards in folder.glob(f"*/{SHARD_FOLDER}"):
        with os.scandir(shards) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    status = entry.stat()
                    yield status.st_mtime, status.st_size, entry.path


def _holds(path: Path, info: ShardInfo) -> bool:
    if path.stat().st_size != info.size:
        return False
    with pa.memory_map(str(path)) as mapped:
        return is_intact(mapped, info)
