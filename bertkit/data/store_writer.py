"""Writing a token store: begun with a marker, finished by its manifest, never read as whole in between."""

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from bertkit.data.encode import IntArray
from bertkit.data.manifest import Manifest
from bertkit.data.store import (
    MANIFEST_FILE,
    PREPARING_FILE,
    SHARD_FOLDER,
    TOKENIZER_FOLDER,
    UNIGRAMS_FILE,
    TokenStore,
)
from bertkit.errors import CorpusError

logger = logging.getLogger(__name__)

DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def complete_store(folder: Path, *, fingerprint: str, settings: Mapping[str, Any]) -> TokenStore | None:
    """The complete store in this folder, if it is the one asked for; None when the folder is free for it.

    Raises CorpusError when the folder holds another store, or something else.
    """
    if (folder / MANIFEST_FILE).is_file():
        store = TokenStore.open(folder)
        if store.manifest.fingerprint == fingerprint:
            return store
        changed = [f"data.{name}" for name in settings if store.manifest.settings.get(name) != settings[name]]
        difference = f"other settings ({', '.join(changed)})" if changed else "another corpus or tokenizer"
        raise CorpusError(f"{folder} holds the token store of {difference}: choose another --output-dir, or delete it")
    if folder.exists() and not folder.is_dir():
        raise CorpusError(f"{folder} is a file: choose a folder as --output-dir")
    if folder.is_dir() and not (folder / PREPARING_FILE).is_file() and any(folder.iterdir()):
        raise CorpusError(f"{folder} holds other files: choose a new or empty folder as --output-dir")
    return None


def begin_store(folder: Path, *, fingerprint: str) -> None:
    """Mark a folder as a store in the making; what an interrupted prepare of another corpus left there is deleted."""
    if _begun_fingerprint(folder) == fingerprint:
        logger.info("%s", f"continuing the interrupted preparation in {folder}")
    else:
        shutil.rmtree(folder / TOKENIZER_FOLDER, ignore_errors=True)
        shutil.rmtree(folder / SHARD_FOLDER, ignore_errors=True)
    (folder / SHARD_FOLDER).mkdir(parents=True, exist_ok=True)
    _write_whole(folder / PREPARING_FILE, json.dumps({"fingerprint": fingerprint}) + "\n")


def finish_store(folder: Path, manifest: Manifest, *, unigram_counts: IntArray) -> None:
    """Delete what is not of the store, and write the manifest that says it is complete."""
    kept = {shard.name for split in manifest.splits.values() for shard in split.shards}
    for file in (folder / SHARD_FOLDER).iterdir():
        if file.name not in kept:
            file.unlink()
    with (folder / UNIGRAMS_FILE).open("wb") as file_:
        np.save(file_, unigram_counts, allow_pickle=False)
        _sync(file_)
    _write_whole(folder / MANIFEST_FILE, manifest.to_json())
    (folder / PREPARING_FILE).unlink()


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn a full disk, or a folder one may not write to, into an error that says what to do."""
    try:
        yield
    except PermissionError as error:
        raise CorpusError(f"cannot write to {folder} ({error.strerror}): choose another --output-dir") from error
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise CorpusError(
            f"the disk that holds {folder} is full ({error.strerror}): free some space and run it again, it continues"
        ) from error


def _begun_fingerprint(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / PREPARING_FILE).read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_whole(path: Path, text: str) -> None:
    """Write aside, sync, rename: the file is there in full or not at all."""
    aside = path.with_name(f"{path.name}.tmp")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        _sync(file)
    aside.replace(path)


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
