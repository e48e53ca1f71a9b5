"""The description of a token store: what it holds, what it was made from, and how to tell that it is whole."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import fsspec

from bertkit.errors import CorpusError

FORMAT_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"
PREPARING_FILE: Final = "preparing.json"
# What tells our files from others of the same name, in every format version.
MANIFEST_KEYS: Final = frozenset({"format_version", "fingerprint", "tokenizer_hash", "splits"})
PREPARING_KEYS: Final = frozenset({"fingerprint"})


@dataclass(frozen=True)
class ShardInfo:
    """One file of a split: its size in bytes, its xxh3 hash and what it holds."""

    name: str
    size: int
    hash: str
    documents: int
    sentences: int
    tokens: int

    def __post_init__(self) -> None:
        # The name becomes a path to write to where a remote store is fetched from whoever made it.
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"{self.name!r} is no name of a shard")
        if not all(isinstance(n, int) and n >= 0 for n in (self.size, self.documents, self.sentences, self.tokens)):
            raise ValueError(f"what {self.name} holds is not told in numbers")


@dataclass(frozen=True)
class SplitInfo:
    """The files of a split in order."""

    shards: tuple[ShardInfo, ...]

    @property
    def documents(self) -> int:
        """Number of documents."""
        return sum(shard.documents for shard in self.shards)

    @property
    def sentences(self) -> int:
        """Number of sentences."""
        return sum(shard.sentences for shard in self.shards)

    @property
    def tokens(self) -> int:
        """Number of tokens, without special ones."""
        return sum(shard.tokens for shard in self.shards)


@dataclass(frozen=True)
class Manifest:
    """Everything about a store; nothing in it depends on when, where or by how many workers it was made."""

    fingerprint: str
    source_fingerprint: str
    source_files: int
    tokenizer_hash: str
    vocab_size: int
    settings: Mapping[str, Any]
    splits: Mapping[str, SplitInfo]
    dropped: Mapping[str, int]
    decisions: Mapping[str, int]
    duplicate_line_share: float
    unknown_share: float
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The same text for equal manifests."""
        values = asdict(self)
        for name, split in self.splits.items():
            values["splits"][name] |= {
                "documents": split.documents,
                "sentences": split.sentences,
                "tokens": split.tokens,
            }
        return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Read a manifest; raises CorpusError when it is damaged or of another format version."""
        try:
            values = json.loads(text)
            version = values["format_version"]
            if version != FORMAT_VERSION:
                raise CorpusError(
                    f"the token store has format version {version}, this bertkit reads {FORMAT_VERSION}: "
                    "prepare the corpus again"
                )
            splits = {
                name: SplitInfo(tuple(ShardInfo(**shard) for shard in split["shards"]))
                for name, split in values["splits"].items()
            }
            return cls(**values | {"splits": splits})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CorpusError(
                f"the token store's manifest.json is damaged ({error}): prepare the corpus again"
            ) from error


def local_path(location: Path | str) -> Path | None:
    """The local path that a path or a URL means; None for a URL of another file system."""
    if isinstance(location, Path) or "://" not in location:
        return Path(location)
    if location.startswith(("file://", "local://")):
        return Path(fsspec.core.url_to_fs(location)[1])
    return None


def is_store(location: Path | str) -> bool:
    """Whether a folder or URL holds a token store, finished or not: told by what its manifest says, not by its name."""
    folder = local_path(location)
    if folder is None:
        return _is_remote_store(str(location))
    return is_finished(folder) or is_unfinished(folder)


def is_finished(path: Path) -> bool:
    """Whether a folder holds a manifest of ours, of any format version."""
    return _keys_of(path / MANIFEST_FILE) >= MANIFEST_KEYS


def is_unfinished(path: Path) -> bool:
    """Whether a preparation was begun in a folder and not finished."""
    return not is_finished(path) and _keys_of(path / PREPARING_FILE) == PREPARING_KEYS


def _is_remote_store(location: str) -> bool:
    def keys_of(name: str) -> frozenset[str]:
        try:
            filesystem, root = fsspec.core.url_to_fs(location)
            return _keys(filesystem.cat_file(f"{root.rstrip('/')}/{name}"))
        except Exception:  # every file system has classes of its own, and most URLs of a corpus are no folder
            return frozenset()

    return keys_of(MANIFEST_FILE) >= MANIFEST_KEYS or keys_of(PREPARING_FILE) == PREPARING_KEYS


def _keys_of(file: Path) -> frozenset[str]:
    """The keys of a JSON object; none when the file is missing, not to be read, or something else."""
    try:
        return _keys(file.read_bytes())
    except OSError:
        return frozenset()


def _keys(content: bytes) -> frozenset[str]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(values) if isinstance(values, dict) else frozenset()
