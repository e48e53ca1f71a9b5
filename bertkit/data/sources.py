"""Where a corpus lies: a file, folder, glob or fsspec URL becomes a sorted list of files; a Hub id a stream of rows."""

import glob
import io
import logging
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

import fsspec
import xxhash

from bertkit.data.dropped import UNSUPPORTED, Dropped
from bertkit.data.manifest import is_store
from bertkit.errors import CorpusError, printable

logger = logging.getLogger(__name__)

FORMATS: Final = {
    ".txt": "txt",
    ".jsonl": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".warc": "warc",
    ".wet": "warc",
}
COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst")
HUB_ID: Final = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(:(?P<config>[\w.-]+))?")
BLOCK_BYTES: Final = 1 << 20
LARGEST_UNPACKED_BYTES: Final = 1 << 27
FOLDERS_NAMED: Final = 3
# gzip and bz2 raise OSError and EOFError for damaged data, the others a class of their own module.
DECOMPRESSORS: Final = ("zlib", "zipfile", "lzma", "_lzma", "zstandard", "zstd", "backend_c")


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
        with (
            self._errors_named(),
            self._open_binary() as binary,
            _as_text(binary, encoding=encoding, newline=newline) as text,
        ):
            yield text

    @contextmanager
    def open_seekable(self) -> Iterator[IO[bytes]]:
        """Open as bytes one can seek in; a compressed file is read into memory, and refused where it is too large."""
        with self._errors_named(), self._open_binary() as binary:
            yield self._unpacked(binary) if self.name.endswith(COMPRESSED) else binary

    def _unpacked(self, binary: IO[bytes]) -> IO[bytes]:
        content = io.BytesIO()
        while block := binary.read(BLOCK_BYTES):
            content.write(block)
            if content.tell() > LARGEST_UNPACKED_BYTES:
                raise CorpusError(
                    f"{self.name} unpacks to more than {LARGEST_UNPACKED_BYTES >> 20} MB: unpack it, for Parquet is "
                    "compressed inside"
                )
        content.seek(0)
        return content

    def content_hash(self) -> str:
        """Hash of the bytes as they lie on disk."""
        hasher = xxhash.xxh3_128()
        with self._errors_named(), self.filesystem.open(self.path, "rb") as binary:
            while block := binary.read(BLOCK_BYTES):
                hasher.update(block)
        return hasher.hexdigest()

    def _open_binary(self) -> Any:
        try:
            return self.filesystem.open(self.path, "rb", compression=fsspec.utils.infer_compression(self.name))
        except (ImportError, ValueError) as error:
            raise CorpusError(f"cannot open {self.name}: {error}; give a local, unpacked copy instead") from error

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise CorpusError(
                f"cannot read {self.name}: permission denied; make it readable (chmod u+r) or move it away"
            ) from error
        except UnicodeEncodeError:
            # Files are decoded, never encoded.
            raise
        except UnicodeError as error:
            raise CorpusError(
                f"{self.name} does not follow its encoding ({error}): set data.encoding to the right one"
            ) from error
        except (EOFError, OSError) as error:
            if is_local(self.filesystem):
                raise CorpusError(f"cannot read {self.name}: {error}; mend the file or move it away") from error
            raise _unreachable(self.name, error) from error
        except Exception as error:
            module = type(error).__module__.partition(".")[0]
            if module in DECOMPRESSORS:
                raise CorpusError(f"cannot decompress {self.name}: {error}; the file is damaged") from error
            if is_local(self.filesystem) or module in ("builtins", "bertkit"):
                raise
            # What is neither Python's nor ours is the remote file system's: each raises classes of its own.
            raise _unreachable(self.name, error) from error


def find_files(location: str, dropped: Dropped) -> tuple[SourceFile, ...] | None:
    """List the files of a corpus in sorted order; None when nothing is there; unsupported ones are counted.

    A file that is named itself, or by a pattern, is read as plain text when its suffix says nothing. Runs and token
    stores of ours inside a folder are no part of the corpus. Raises CorpusError when it cannot be looked through.
    """
    with _finding_errors_named(location):
        filesystem, root = fsspec.core.url_to_fs(location)
        sources = _list_sources(filesystem, root)
    if sources is None:
        return None
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


def _list_sources(filesystem: Any, root: str) -> list[SourceFile] | None:
    if filesystem.isfile(root):
        return [_source(filesystem, root, name=PurePosixPath(root).name, unknown="txt")]
    if filesystem.isdir(root):
        paths = sorted(_walk(root) if is_local(filesystem) else filesystem.find(root))
        unknown = ""
    elif glob.has_magic(root):
        paths = sorted(path for path in filesystem.glob(root) if filesystem.isfile(path))
        root, unknown = _fixed_part(root), "txt"
    else:
        return None
    base = root.rstrip("/") + "/"
    return [_source(filesystem, path, name=path.removeprefix(base), unknown=unknown) for path in paths]


@contextmanager
def _finding_errors_named(location: str) -> Iterator[None]:
    protocol = fsspec.core.split_protocol(location)[0]
    try:
        yield
    except CorpusError:
        raise
    except ImportError as error:
        package = getattr(error.__cause__, "name", None)
        install = f"pip install {package}" if package else "install it"
        raise CorpusError(f"{location!r}: {error}: {install}, or give the path of a local copy") from error
    except Exception as error:
        if protocol is None and not isinstance(error, OSError):
            raise
        if str(error).startswith("Protocol not known"):
            raise CorpusError(
                f"{location!r}: the protocol {protocol!r} is not known: give a local path, or a URL of a kind that "
                "fsspec opens, such as https:// or s3://"
            ) from error
        # Every file system raises classes of its own.
        raise _unreachable(location, error) from error


def _unreachable(location: str, error: Exception) -> CorpusError:
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    return CorpusError(
        f"{location!r} cannot be reached ({reason}): check the address, your access and the network, "
        "or give the path of a local copy"
    )


def _as_text(binary: Any, *, encoding: str, newline: str | None) -> io.TextIOWrapper:
    # Only utf-8 has a variant that swallows a byte-order mark; utf-16 always does.
    bom_aware = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    try:
        return io.TextIOWrapper(binary, encoding=bom_aware, errors="surrogateescape", newline=newline)
    except (LookupError, ValueError) as error:
        raise CorpusError(f"data.encoding: {error}; write it as Python names it, such as utf-8 or latin-1") from error


def _source(filesystem: Any, path: str, *, name: str, unknown: str) -> SourceFile:
    if not is_local(filesystem):
        # The query of a signed URL is a secret, and no part of the name.
        name = name.partition("?")[0]
    elif _is_endless(path):
        return SourceFile(name, path, "", filesystem)
    stem = name.lower()
    for suffix in COMPRESSED:
        stem = stem.removesuffix(suffix)
    return SourceFile(
        # Names become ids of documents, which are text on one line.
        printable(name).replace("\n", "\\n"),
        path,
        FORMATS.get(PurePosixPath(stem).suffix, unknown),
        filesystem,
    )


def _is_endless(path: str) -> bool:
    """Whether this is a pipe, a socket or a device: reading one may never come to an end."""
    try:
        kind = stat.S_IFMT(Path(path).stat().st_mode)
    except OSError:
        return False
    return kind not in (stat.S_IFREG, stat.S_IFDIR)


def _walk(root: str) -> Iterator[str]:
    """Every file below a local folder, links followed once; hidden ones are left out by convention, ours are said."""
    visited: set[str] = set()
    ours: list[str] = []
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=_refuse_unreadable):
        real = os.path.realpath(folder)
        if real in visited or (folder != root and _is_ours(Path(folder))):
            if real not in visited:
                ours.append(os.path.relpath(folder, root))
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        yield from (str(Path(folder) / name) for name in names if not name.startswith("."))
    if ours:
        named = ", ".join(sorted(ours)[:FOLDERS_NAMED]) + (", ..." if len(ours) > FOLDERS_NAMED else "")
        logger.info("%s", f"runs and token stores of bertkit inside the corpus are not read as text: {named}")


def _is_ours(folder: Path) -> bool:
    """Whether bertkit wrote this folder: the run of a `bertkit pretrain .` lies below its own corpus."""
    of_run = (folder / name for name in ("checkpoints", "metrics.jsonl", "environment.json"))
    return ((folder / "config.yaml").is_file() and any(path.exists() for path in of_run)) or is_store(folder)


def _refuse_unreadable(error: OSError) -> None:
    raise CorpusError(
        f"cannot look into the folder {error.filename} ({error.strerror}): "
        "make it readable (chmod u+rx) or move it away"
    ) from error


def _fixed_part(pattern: str) -> str:
    parts = pattern.split("/")
    return "/".join(parts[: next(i for i, part in enumerate(parts) if glob.has_magic(part))])


def is_local(filesystem: Any) -> bool:
    """Whether a file system of fsspec is this machine's own."""
    protocol = filesystem.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)
