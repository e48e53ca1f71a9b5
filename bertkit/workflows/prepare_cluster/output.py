"""The folder or URL a store is made in: free, begun or complete; its manifest is written last."""

import io
import logging
from collections.abc import Callable

import numpy as np

from bertkit.data.any_folder import AnyFolder
from bertkit.data.encode import IntArray
from bertkit.data.manifest import MANIFEST_KEYS, PREPARING_KEYS, Manifest
from bertkit.data.store import MANIFEST_FILE, PREPARING_FILE, SHARD_FOLDER, TOKENIZER_FOLDER, UNIGRAMS_FILE
from bertkit.data.store_writer import WORK_FOLDER, refuse_different
from bertkit.errors import CorpusError, redacted
from bertkit.lock import LOCK_FILE
from bertkit.workflows.prepare import Identity

logger = logging.getLogger(__name__)


def complete_manifest(output: AnyFolder, identify: Callable[[], Identity]) -> Manifest | None:
    """The manifest of the complete store there; None when the place is free for it, or for going on with it.

    `identify` is called for a complete store only: it reads the whole corpus. Raises CorpusError when the place holds
    another complete store, or something else.
    """
    if _keys_of(output, MANIFEST_FILE) >= MANIFEST_KEYS:
        manifest = Manifest.from_json(output.read(MANIFEST_FILE).decode(errors="replace"))
        identity = identify()
        refuse_different(manifest, output.url, fingerprint=identity.fingerprint, settings=identity.settings)
        _delete_leftovers(output)
        return manifest
    if _begun_mark(output) is None and set(output.names()) - {LOCK_FILE, f".{PREPARING_FILE}.partial"}:
        raise CorpusError(f"{output.url} holds other files: choose a new or empty folder as --output-dir")
    return None


def begin_output(output: AnyFolder, work: AnyFolder, *, mark: str) -> None:
    """Mark a place as a store in the making; what another corpus or other settings left unfinished there goes."""
    begun = _begun_mark(output)
    if begun == mark:
        logger.info("%s", f"continuing the interrupted preparation in {redacted(output.url)}")
        return
    if begun is not None:
        logger.info(
            "%s",
            f"{redacted(output.url)} holds an unfinished token store of another corpus or of other settings: "
            "beginning anew",
        )
    work.delete()
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
    work.delete()
    _delete_leftovers(output)


def _delete_leftovers(output: AnyFolder) -> None:
    for name in (WORK_FOLDER, PREPARING_FILE):
        output.delete(name)


def _begun_mark(output: AnyFolder) -> str | None:
    if _keys_of(output, PREPARING_FILE) != PREPARING_KEYS:
        return None
    return str(output.read_json(PREPARING_FILE)["fingerprint"])


def _keys_of(output: AnyFolder, name: str) -> frozenset[str]:
    """The keys of a JSON object; none when the file is missing or something else, which may well have such a name."""
    if not output.exists(name):
        return frozenset()
    try:
        values = output.read_json(name)
    except (ValueError, RecursionError):
        return frozenset()
    return frozenset(values) if isinstance(values, dict) else frozenset()
