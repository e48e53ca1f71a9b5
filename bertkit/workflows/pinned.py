"""What a run is bound to from its first step on: the token store it reads and the architecture it trains."""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from bertkit.config.schema import PretrainConfig
from bertkit.data.store import TokenStore, is_store
from bertkit.errors import CheckpointError
from bertkit.model import BertKitConfig
from bertkit.train.checkpoint import latest_checkpoint, load_weights
from bertkit.workflows.initial import model_class
from bertkit.workflows.runs import RunFolder, write_aside


def pin(run: RunFolder, store: TokenStore, model: PreTrainedModel) -> None:
    """Writes down which store and which architecture the run uses."""
    pinned = {"store_fingerprint": store.fingerprint, "architecture": model.config.to_dict()}
    write_aside(run.pinned_file, json.dumps(pinned, indent=2) + "\n")


def store_path(config: PretrainConfig, run: RunFolder) -> Path:
    """Where the run's token store lies: in the run, or the prepared folder that was given as its corpus."""
    if config.corpus is not None and is_store(Path(config.corpus)):
        return Path(config.corpus)
    return run.store


def open_pinned_store(config: PretrainConfig, run: RunFolder) -> TokenStore:
    """The store the run began with.

    Raises:
        CorpusError: it is gone or damaged.
        CheckpointError: another one has taken its place.
    """
    store = TokenStore.open(store_path(config, run))
    if store.fingerprint != _read(run)["store_fingerprint"]:
        raise CheckpointError(
            f"{store.path} is not the token store {run.path} was trained on: put that one back, or start another run"
        )
    return store


def build_pinned_model(config: PretrainConfig, run: RunFolder) -> PreTrainedModel:
    """The run's model, its weights yet to be loaded; whatever it was begun from is needed no more."""
    return model_class(config)(BertKitConfig(**_read(run)["architecture"]))


def open_trained(run: RunFolder) -> tuple[PretrainConfig, TokenStore, PreTrainedModel, int]:
    """The config, the store, the model at its last good checkpoint, and the step of that, for scoring and exporting.

    Raises:
        CheckpointError: there is no such run, or no checkpoint in it.
    """
    config = run.read_config(PretrainConfig)
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is None:
        raise CheckpointError(f"{run.path} has no checkpoint yet: let bertkit pretrain save one first")
    store, model = open_pinned_store(config, run), build_pinned_model(config, run)
    load_weights(checkpoint, model)
    return config, store, model, checkpoint.step


def _read(run: RunFolder) -> dict[str, Any]:
    try:
        values = json.loads(run.pinned_file.read_text(encoding="utf-8"))
        return {name: values[name] for name in ("store_fingerprint", "architecture")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{run.pinned_file} is missing or damaged, so {run.path} cannot be opened") from error
