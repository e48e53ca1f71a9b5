"""The folder or URL a store is made in: free, begun or complete; its manifest is written last."""

import io
import logging
import re
from collections.abc import Callable
from typing import Final

import numpy as np

from bertkit.data.any_folder import AnyFolder
from bertkit.data.encode import IntArray
from bertkit.data.manifest import MANIFEST_KEYS, PREPARING_KEYS, Manifest
from bertkit.data.store import MANIFEST_FILE, PREPARING_FILE, SHARD_FOLDER, TOKENIZER_FOLDER, UNIGRAMS_FILE
from bertkit.data.store_writer import refuse_different
from bertkit.errors import CorpusError, redacted
from bertkit.lock import LOCK_FILE
from bertkit.whole import is_aside
from bertkit.workflows.prepare import Identity

logger = logging.getLogger(__name__)

# The folder of a preparation's work by its mark.
WorkOf = Callable[[str], AnyFolder]

MISSING: Final = -1


def complete_manifest(output: AnyFolder, identify: Callable[[], Identity]) -> Manifest | None:
    """The manifest of the complete store there; None when the place is free for it, or for going on with it.

    `identify` is called for a complete store only: it reads the whole corpus. Raises CorpusError when the place holds
    another complete store, one that lacks a shard, or something else.
    """
    if _keys_of(output, MANIFEST_FILE) >= MANIFEST_KEYS:
        manifest = Manifest.from_json(output.read(MANIFEST_FILE).decode(errors="replace"))
        identity = identify()
        refuse_different(manifest, output.url, fingerprint=identity.fingerprint, settings=identity.settings)
        _check_sizes(output, manifest)
        return manifest
    if begun_mark(output) is None and _holds_other_files(output):
        raise CorpusError(f"{output.url} holds other files: choose a new or empty folder as --output-dir")
    return None


def begin_output(output: AnyFolder, work_of: WorkOf, *, mark: str) -> None:
    """Mark a place as a store in the making; what another corpus or other settings left unfinished there goes."""
    begun = begun_mark(output)
    if begun == mark:
        logger.info("%s", f"continuing the interrupted preparation in {redacted(output.url)}")
        return
    if begun is not None:
        logger.info(
            "%s",
            f"{redacted(output.url)} holds an unfinished token store of another corpus or of other settings: "
            "beginning anew",
        )
        work_of(begun).delete()
    work_of(mark).delete()
    for name in (TOKENIZER_FOLDER, SHARD_FOLDER):
        output.delete(name)
    output.write_json(PREPARING_FILE, {"fingerprint": mark})


def finish_output(output: AnyFolder, work: AnyFolder, manifest: Manifest, *, unigram_counts: IntArray) -> None:
    """Delete what is not of the store, write the manifest that says it is complete, and then what was in between."""
    kept = {shard.name for split in manifest.splits.values() for shard in split.shards}
    shards = output.below(SHARD_FOLDER)
    for name in set(shards.names()) - kept:
        shards.delete(name)
    buffer = io.BytesIO()
    np.save(buffer, unigram_counts, allow_pickle=False)
    output.write(UNIGRAMS_FILE, buffer.getvalue())
    output.write(MANIFEST_FILE, manifest.to_json().encode())
    delete_leftovers(output, work)


def delete_leftovers(output: AnyFolder, work: AnyFolder) -> None:
    """Delete what is no part of a store that is complete; the mark is the last, for it says that this is ours."""
    work.delete()
    for folder in (output, output.below(TOKENIZER_FOLDER)):
        for name in filter(is_aside, folder.names()):
            folder.delete(name)
    output.delete(PREPARING_FILE)


def begun_mark(output: AnyFolder) -> str | None:
    """The mark of the preparation that was begun there, and neither finished nor tidied up; None when there is none."""
    if _keys_of(output, PREPARING_FILE) != PREPARING_KEYS:
        return None
    mark = str(output.read_json(PREPARING_FILE)["fingerprint"])
    # It becomes the name of a folder that is deleted.
    return mark if re.fullmatch("[0-9a-f]{32}", mark) else None


def _holds_other_files(output: AnyFolder) -> bool:
    """Whether there is more than what a preparation leaves that was killed while it made its mark."""
    return any(name != LOCK_FILE and not is_aside(name, PREPARING_FILE) for name in output.names())


def _check_sizes(output: AnyFolder, manifest: Manifest) -> None:
    sizes = output.below(SHARD_FOLDER).sizes()
    for shard in (shard for split in manifest.splits.values() for shard in split.shards):
        size = sizes.get(shard.name, MISSING)
        # Not every file system tells a size.
        if size is not None and size != shard.size:
            found = "is missing" if size == MISSING else f"has {size:,} bytes instead of {shard.size:,}"
            raise CorpusError(
                f"{SHARD_FOLDER}/{shard.name} at {output.url} {found}: delete {output.url} and prepare the corpus again"
            )


def _keys_of(output: AnyFolder, name: str) -> frozenset[str]:
    """The keys of a JSON object; none when the file is missing or something else, which may well have such a name."""
    if not output.exists(name):
        return frozenset()
    try:
        values = output.read_json(name)
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(values) if isinstance(values, dict) else frozenset()
