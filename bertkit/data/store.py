"""The token store: tokenised documents on disk, prepared once and trained on at any length (DESIGN 4)."""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Final

import numpy as np

from bertkit.data.encode import IntArray
from bertkit.data.manifest import MANIFEST_FILE as MANIFEST_FILE
from bertkit.data.manifest import PREPARING_FILE as PREPARING_FILE
from bertkit.data.manifest import Manifest, SplitInfo
from bertkit.data.manifest import is_store as is_store
from bertkit.data.manifest import local_path as local_path
from bertkit.data.shard import Shard as Shard
from bertkit.data.shard_cache import SHARD_FOLDER as SHARD_FOLDER
from bertkit.data.shard_cache import CachedShards, RemoteStore, StoreCache, mirror
from bertkit.data.shard_files import LocalShards, ShardFiles
from bertkit.data.tokenizer import load_tokenizer
from bertkit.data.vocabulary import Vocabulary
from bertkit.errors import CorpusError

UNIGRAMS_FILE: Final = "unigrams.npy"
TOKENIZER_FOLDER: Final = "tokenizer"
SPLITS: Final = ("train", "heldout")


@dataclass(frozen=True)
class StoreSplit:
    """The documents of one split, and where their files are."""

    name: str
    info: SplitInfo
    files: ShardFiles

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The files of the split, new objects each time: what one has read is freed with it."""
        return tuple(
            Shard(self.files.folder / shard.name, partial(self.files.open, shard)) for shard in self.info.shards
        )

    @property
    def num_documents(self) -> int:
        """Number of documents."""
        return self.info.documents

    @property
    def num_sentences(self) -> int:
        """Number of sentences."""
        return self.info.sentences

    @property
    def num_tokens(self) -> int:
        """Number of tokens, without special ones."""
        return self.info.tokens


@dataclass(frozen=True)
class TokenStore:
    """A complete token store, opened at the folder or URL `location`; its small files lie in the folder `path`."""

    location: str
    path: Path
    manifest: Manifest
    files: ShardFiles

    @classmethod
    def open(cls, location: Path | str, *, cache: StoreCache | None = None) -> "TokenStore":
        """Open the store in a folder, or at any URL of fsspec, whose shards are kept in `cache` as they are read.

        Raises CorpusError when it is missing, not finished, of another format version, damaged or out of reach.
        """
        path = local_path(location)
        if path is None:
            return cls._open_remote(str(location), cache or StoreCache())
        if not (path / MANIFEST_FILE).is_file():
            raise CorpusError(_what_is_missing(path))
        store = cls(str(path), path, _read_manifest(path), LocalShards(path / SHARD_FOLDER))
        store._check_sizes()
        return store

    @classmethod
    def _open_remote(cls, location: str, cache: StoreCache) -> "TokenStore":
        remote = RemoteStore(location)
        path = mirror(remote, cache, files=(UNIGRAMS_FILE,), folders=(TOKENIZER_FOLDER,))
        return cls(location, path, _read_manifest(path), CachedShards(remote, path, cache))

    def split(self, name: str) -> StoreSplit:
        """The split "train" or "heldout"."""
        return StoreSplit(name, self.manifest.splits[name], self.files)

    @property
    def fingerprint(self) -> str:
        """Hash of everything the store was made from: equal fingerprints, equal bytes."""
        return self.manifest.fingerprint

    @property
    def tokenizer_path(self) -> Path:
        """Folder that `AutoTokenizer` opens."""
        return self.path / TOKENIZER_FOLDER

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary; raises CorpusError when the tokenizer in the store is not the one it was made with."""
        vocabulary = load_tokenizer(self.tokenizer_path).vocabulary
        if vocabulary.hash != self.manifest.tokenizer_hash:
            raise CorpusError(
                f"{self.tokenizer_path} is not the tokenizer this store was made with: prepare the corpus again"
            )
        return vocabulary

    @cached_property
    def unigram_counts(self) -> IntArray:
        """[V] how often each id occurs in the train split; raises CorpusError when the file is missing or damaged."""
        file = self.path / UNIGRAMS_FILE
        try:
            counts = np.asarray(np.load(file, allow_pickle=False), dtype=np.int64)
        except (OSError, ValueError, EOFError) as error:
            raise CorpusError(f"{file} is missing or damaged: delete {self.path} and prepare again") from error
        if counts.shape != (self.manifest.vocab_size,):
            raise CorpusError(f"{file} is not of this store: delete {self.path} and prepare again")
        return counts

    def _check_sizes(self) -> None:
        for split in self.manifest.splits.values():
            for shard in split.shards:
                file = self.path / SHARD_FOLDER / shard.name
                size = file.stat().st_size if file.is_file() else None
                if size != shard.size:
                    found = "is missing" if size is None else f"has {size:,} bytes instead of {shard.size:,}"
                    raise CorpusError(f"{file} {found}: delete {self.path} and prepare the corpus again")


def _read_manifest(path: Path) -> Manifest:
    # What does not decode is damage, which the manifest finds.
    return Manifest.from_json((path / MANIFEST_FILE).read_text(encoding="utf-8", errors="replace"))


def _what_is_missing(path: Path) -> str:
    if (path / PREPARING_FILE).is_file():
        return (
            f"the token store in {path} is not finished: run bertkit prepare again with the same settings, it continues"
        )
    return f"there is no token store in {path}: make one with bertkit prepare CORPUS --output-dir {path}"
