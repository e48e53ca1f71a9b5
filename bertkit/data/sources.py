"""Where a corpus lies: a file, folder, glob or fsspec URL becomes a sorted list of files; a Hub id a stream of rows."""

import glob
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import fsspec
import xxhash

from bertkit.data.dropped import UNSUPPORTED, Dropped
from bertkit.errors import CorpusError

FORMATS: Final = {".txt": "txt", ".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst")
HUB_ID: Final = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(:(?P<config>[\w.-]+))?")
HASH_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class SourceFile:
    """One file of a corpus: `name` is its path inside the corpus, `path` what the file system opens."""

    name: str
    path: str
    format: str
    filesystem: Any

    @contextmanager
    def open_text(self, encoding: str, *, newline: str | None = None) -> Iterator[IO[str]]:
        """Open as text, decompressed; bytes that do not decode become lone surrogates, found document by document."""
        with self._errors_named():
            # Only utf-8 has a variant that swallows a byte-order mark; utf-16 always does.
            bom_aware = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
            with (
                self._open_binary() as binary,
                io.TextIOWrapper(binary, encoding=bom_aware, errors="surrogateescape", newline=newline) as text,
            ):
                yield text

    @contextmanager
    def open_seekable(self) -> Iterator[IO[bytes]]:
        """Open as bytes one can seek in; a compressed file is read into memory."""
        with self._errors_named(), self._open_binary() as binary:
            yield io.BytesIO(binary.read()) if self.name.endswith(COMPRESSED) else binary

    def content_hash(self) -> str:
        """Hash of the bytes as they lie on disk."""
        hasher = xxhash.xxh3_128()
        with self._errors_named(), self.filesystem.open(self.path, "rb") as binary:
            while block := binary.read(HASH_BLOCK_BYTES):
                hasher.update(block)
        return hasher.hexdigest()

    def _open_binary(self) -> Any:
        return self.filesystem.open(self.path, "rb", compression="infer")

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise CorpusError(
                f"cannot read {self.name}: permission denied; make it readable (chmod u+r) or move it away"
            ) from error
        except LookupError as error:
            if "encoding" not in str(error):
                raise
            raise CorpusError(
                f"data.encoding: {error}; write it as Python names it, such as utf-8 or latin-1"
            ) from error
        except UnicodeError as error:
            raise CorpusError(
                f"{self.name} does not follow its encoding ({error}): set data.encoding to the right one"
            ) from error
        except (EOFError, OSError, ValueError) as error:
            raise CorpusError(f"cannot read {self.name}: {error}; mend the file or move it away") from error
        except Exception as error:
            # zlib, lzma and zstandard each raise a class of their own for damaged data.
            if type(error).__module__.partition(".")[0] not in (
                "zlib",
                "lzma",
                "_lzma",
                "zstandard",
                "zstd",
                "backend_c",
            ):
                raise
            raise CorpusError(f"cannot decompress {self.name}: {error}; the file is damaged") from error


def find_files(location: str, dropped: Dropped) -> tuple[SourceFile, ...] | None:
    """List the files of a corpus in sorted order; None when nothing is there; unsupported ones are counted.

    A file that is named itself, or by a pattern, is read as plain text when its suffix says nothing.
    """
    filesystem, root = fsspec.core.url_to_fs(location)
    local = "file" in _protocols(filesystem)
    if filesystem.isfile(root):
        return (_source(filesystem, root, name=PurePosixPath(root).name, unknown="txt"),)
    if filesystem.isdir(root):
        paths = sorted(_walk(root) if local else filesystem.find(root))
        unknown = ""
    elif glob.has_magic(root):
        paths = sorted(path for path in filesystem.glob(root) if filesystem.isfile(path))
        root, unknown = _fixed_part(root), "txt"
    else:
        return None
    base = root.rstrip("/") + "/"
    sources = [_source(filesystem, path, name=path.removeprefix(base), unknown=unknown) for path in paths]
    for source in sources:
        if not source.format:
            dropped.add(UNSUPPORTED, source.name)
    return tuple(source for source in sources if source.format)


def is_hub_id(location: str) -> bool:
    """Whether this reads as `owner/name` or `owner/name:config`."""
    return HUB_ID.fullmatch(location) is not None


def hub_rows(location: str) -> Iterator[dict[str, Any]]:
    """Stream the `train` split of a Hub data set.

    Raises CorpusError when it cannot be read; the message names a way without network.
    """
    match = HUB_ID.fullmatch(location)
    name, config = (match["name"], match["config"]) if match else (location, None)
    import datasets

    try:
        yield from datasets.load_dataset(name, config, split="train", streaming=True)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CorpusError(
            f"{location!r} is no file or folder here, and as a Hub data set it cannot be read ({reason}): "
            "check the name, or give a local folder of .txt, .jsonl, .csv or .parquet files, which needs no network"
        ) from error


def _source(filesystem: Any, path: str, *, name: str, unknown: str) -> SourceFile:
    stem = name.lower()
    for suffix in COMPRESSED:
        stem = stem.removesuffix(suffix)
    return SourceFile(name, path, FORMATS.get(PurePosixPath(stem).suffix, unknown), filesystem)


def _walk(root: str) -> Iterator[str]:
    """Every file below a local folder, links followed once, hidden ones left out by convention."""
    visited: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        subfolders[:] = [] if real in visited else [name for name in subfolders if not name.startswith(".")]
        if real not in visited:
            yield from (str(Path(folder) / name) for name in names if not name.startswith("."))
        visited.add(real)


def _fixed_part(pattern: str) -> str:
    parts = pattern.split("/")
    return "/".join(parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
