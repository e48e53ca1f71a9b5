"""Writing a token store: begun with a marker, finished by its manifest, never read as whole in between."""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from bertkit.data.encode import IntArray
from bertkit.data.folders import folder_named, make_folder
from bertkit.data.manifest import Manifest, is_finished, is_unfinished
from bertkit.data.store import (
    MANIFEST_FILE,
    PREPARING_FILE,
    SHARD_FOLDER,
    TOKENIZER_FOLDER,
    UNIGRAMS_FILE,
    TokenStore,
)
from bertkit.errors import CorpusError
from bertkit.lock import LOCK_FILE
from bertkit.whole import is_aside, written_whole

logger = logging.getLogger(__name__)

# What `prepare --executor` makes in between; none of it is part of a store.
WORK_FOLDER: Final = "preparing-work"


def complete_store(folder: Path, *, fingerprint: str, settings: Mapping[str, Any]) -> TokenStore | None:
    """The complete store in this folder, if it is the one asked for; None when the folder is free for it.

    Raises CorpusError when the folder holds another complete store, or something else.
    """
    if is_finished(folder):
        store = TokenStore.open(folder)
        refuse_different(store.manifest, folder, fingerprint=fingerprint, settings=settings)
        return store
    with folder_named(folder):
        if folder.exists() and not folder.is_dir():
            raise CorpusError(f"{folder} is a file: choose a folder as --output-dir")
        if folder.is_dir() and not is_unfinished(folder) and _holds_other_files(folder):
            raise CorpusError(f"{folder} holds other files: choose a new or empty folder as --output-dir")
    return None


def refuse_different(manifest: Manifest, folder: Path | str, *, fingerprint: str, settings: Mapping[str, Any]) -> None:
    """Raise CorpusError when the complete store in `folder` is not the one asked for."""
    if manifest.fingerprint == fingerprint:
        return
    names = [*settings, *(name for name in manifest.settings if name not in settings)]
    changed = [f"data.{name}" for name in names if manifest.settings.get(name) != settings.get(name)]
    difference = f"other settings ({', '.join(changed)})" if changed else "another corpus or tokenizer"
    raise CorpusError(f"{folder} holds the token store of {difference}: choose another --output-dir, or delete it")


def begin_store(folder: Path, *, fingerprint: str) -> None:
    """Mark a folder as a store in the making.

    What an interrupted prepare of another corpus or of other settings left there is deleted: nothing in it is finished.
    """
    make_folder(folder)
    begun = _begun_fingerprint(folder)
    if begun == fingerprint:
        logger.info("%s", f"continuing the interrupted preparation in {folder}")
    elif begun is not None:
        logger.info(
            "%s", f"{folder} holds an unfinished token store of another corpus or of other settings: beginning anew"
        )
        _delete_begun(folder)
    # The mark comes after what it disowns is gone, and before anything it stands for is there.
    _write_whole(folder / PREPARING_FILE, json.dumps({"fingerprint": fingerprint}) + "\n")
    make_folder(folder / SHARD_FOLDER)


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


def _holds_other_files(folder: Path) -> bool:
    """Whether there is more than what a prepare leaves that was killed while it made its mark."""
    return any(path.name != LOCK_FILE and not is_aside(path.name, PREPARING_FILE) for path in folder.iterdir())


def _begun_fingerprint(folder: Path) -> str | None:
    if not is_unfinished(folder):
        return None
    return str(json.loads((folder / PREPARING_FILE).read_text(encoding="utf-8"))["fingerprint"])


def _delete_begun(folder: Path) -> None:
    for begun in (folder / TOKENIZER_FOLDER, folder / SHARD_FOLDER, folder / WORK_FOLDER):
        if begun.exists():
            shutil.rmtree(begun)


def _write_whole(path: Path, text: str) -> None:
    with written_whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
