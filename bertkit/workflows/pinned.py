"""What a run is bound to from its first step on: the token store it reads and the architecture it trains."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from bertkit.config.data import DataConfig
from bertkit.config.schema import PretrainConfig
from bertkit.data.loader import DATA_ORDER, count_blocks
from bertkit.data.shard_cache import StoreCache
from bertkit.data.store import TokenStore, is_store, local_path
from bertkit.errors import CheckpointError, refused_as
from bertkit.model.families import config_from
from bertkit.train.checkpoint import DamagedCheckpointError, latest_checkpoint, list_checkpoints, load_weights
from bertkit.workflows.initial import model_class
from bertkit.workflows.runs import RunFolder, write_aside
from bertkit.workflows.source import require_sane


def pin(run: RunFolder, store: TokenStore, model: PreTrainedModel) -> None:
    """Writes down which store, in which order, and which architecture the run uses."""
    pinned = {
        "store_fingerprint": store.fingerprint,
        "data_order": DATA_ORDER,
        "architecture": model.config.to_dict(),
    }
    write_aside(run.pinned_file, json.dumps(pinned, indent=2) + "\n")


def store_path(config: PretrainConfig, run: RunFolder) -> Path | str:
    """Where the run's token store lies: in the run, or the folder or URL of a prepared one, given as its corpus."""
    if config.corpus is None:
        return run.store
    folder = local_path(config.corpus)
    if folder is not None:
        return folder if is_store(folder) else run.store
    # Whether a run that has begun reads a store at a URL is known without the network.
    has_begun = bool(list_checkpoints(run.checkpoints))
    is_remote = not is_store(run.store) if has_begun else is_store(config.corpus)
    return config.corpus if is_remote else run.store


def open_store(location: Path | str, data: DataConfig) -> TokenStore:
    """The store in a folder or at a URL, its shards cached as the `data` section says.

    Raises:
        CorpusError: it is missing, damaged or out of reach.
    """
    max_bytes = int(data.cache_gb * 1e9)
    if data.cache_dir is None:
        return TokenStore.open(location, cache=StoreCache(max_bytes=max_bytes))
    return TokenStore.open(location, cache=StoreCache(Path(data.cache_dir).expanduser(), max_bytes))


def open_pinned_store(config: PretrainConfig, run: RunFolder, *, resumes: bool = False) -> TokenStore:
    """The store the run began with; one that `resumes` also reads it in the order it began with.

    Raises:
        CorpusError: it is gone or damaged.
        CheckpointError: another one has taken its place, or this bertkit would read it in another order.
    """
    store = open_store(store_path(config, run), config.data)
    pinned = _read(run)
    if store.fingerprint != pinned["store_fingerprint"]:
        raise CheckpointError(
            f"{store.location} is not the token store {run.path} was trained on: put that one back, or start another "
            "run"
        )
    # A store of one block is read alike in all of them.
    if resumes and pinned["data_order"] != DATA_ORDER and count_blocks(store.split("train")) > 1:
        raise CheckpointError(
            f"{run.path} was begun by a bertkit that reads a store of this size in another order, so some text would "
            f"be repeated and some left out: continue it with that version, or begin another run from its weights "
            f"with --from {run.path}"
        )
    return store


def build_pinned_model(config: PretrainConfig, run: RunFolder) -> PreTrainedModel:
    """The run's model, its weights yet to be loaded; whatever it was begun from is needed no more."""
    architecture = _read(run)["architecture"]
    with refused_as(CheckpointError, f"{run.pinned_file} is damaged, so {run.path} cannot be opened"):
        shape = config_from(architecture)
        require_sane(shape)
        return model_class(config)(shape)


def pinned_architecture(run: RunFolder) -> dict[str, Any]:
    """The config of the run's model."""
    return dict(_read(run)["architecture"])


def open_trained(
    run: RunFolder, config: PretrainConfig | None = None
) -> tuple[PretrainConfig, TokenStore, PreTrainedModel, int]:
    """The config, the store, the model at its last good checkpoint, and the step of that, for scoring and exporting.

    `config`: the run's own where it is at hand; what is kept of it names no password.

    Raises:
        CheckpointError: there is no such run, or no checkpoint in it.
    """
    config = config or run.read_config(PretrainConfig)
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is None:
        raise CheckpointError(f"{run.path} has no checkpoint yet: let bertkit pretrain save one first")
    store, model = open_pinned_store(config, run), build_pinned_model(config, run)
    try:
        load_weights(checkpoint, model)
    except DamagedCheckpointError:
        if list_checkpoints(run.checkpoints)[:1] == [checkpoint.path]:
            raise
        # A run under way has saved another one meanwhile, and removed this one.
        return open_trained(run, config)
    return config, store, model, checkpoint.step


def _read(run: RunFolder) -> dict[str, Any]:
    try:
        values = json.loads(run.pinned_file.read_text(encoding="utf-8"))
        pinned = {name: values[name] for name in ("store_fingerprint", "architecture")}
        return pinned | {"data_order": values.get("data_order", 1)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{run.pinned_file} is missing or damaged, so {run.path} cannot be opened") from error
