"""Checkpoints that are whole or absent: written aside, synced, renamed; verified before they are trusted.

`checkpoints/step-0010000/` holds `model.safetensors`, `optimizer.safetensors` and `checkpoint.json`: the counters of
the run and the size and hash of the other two.
"""

import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bertkit.errors import DISK_FULL, CheckpointError, refused_as
from bertkit.train.optim import optimizer_tensors, restore_optimizer
from bertkit.train.sharding import gather, shard_like, take_apart
from bertkit.train.state import TrainState
from bertkit.whole import written_whole

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
MODEL_FILE, OPTIMIZER_FILE, MANIFEST_FILE = "model.safetensors", "optimizer.safetensors", "checkpoint.json"
COUNTERS = ("step", "phase", "tokens", "instances", "elapsed_s")


class DamagedCheckpointError(CheckpointError):
    """A file of a checkpoint is missing, truncated or altered."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk whose files were found whole."""

    path: Path
    manifest: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.manifest["step"])


def save_checkpoint(
    state: TrainState,
    folder: Path,
    *,
    model: nn.Module,
    scaler: Any = None,
    keep: int | None = None,
    best_step: int | None = None,
    writes: bool = True,
) -> Path:
    """Writes `state` under `folder`/step-NNNNNNN and returns that path; `model` is the state's, unwrapped.

    A model in parts is gathered by all its processes: all call this, and one `writes`. Older checkpoints beyond `keep`,
    but that of `best_step`, are removed after the new one is whole, and so are later ones: a run that goes on from an
    earlier step has found them damaged.

    Raises:
        CheckpointError: the disk is full or the folder cannot be written; nothing half-written stays.
    """
    path = folder / f"step-{state.step:07d}"
    take_apart(model)
    # Everything is gathered before a byte is written: where writing fails, no process waits for a part of another.
    files = {
        MODEL_FILE: gather(model_tensors(model), keep=writes),
        OPTIMIZER_FILE: gather(_detached(optimizer_tensors(model, state.optimizer)), keep=writes),
    }
    if writes:
        _write(path, state, files, scaler=scaler)
        _remove_all_but(path, folder, keep=keep, best_step=best_step)
    return path


def _write(path: Path, state: TrainState, files: dict[str, dict[str, Tensor]], *, scaler: Any) -> None:
    try:
        with written_whole(path) as aside:
            aside.mkdir(parents=True)
            for name, tensors in files.items():
                save_file(tensors, aside / name)
            manifest = {
                "format_version": FORMAT_VERSION,
                **{name: getattr(state, name) for name in COUNTERS},
                "position": state.position.to_dict() if state.position is not None else None,
                "scaler": scaler.state_dict() if scaler is not None else None,
                "files": {name: _fingerprint(aside / name) for name in files},
            }
            sealed = manifest | {"seal": _seal(manifest)}
            (aside / MANIFEST_FILE).write_text(json.dumps(sealed, indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(_why_not_written(error, path)) from error


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints under `folder`, newest first, unverified."""
    named = (path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal())
    return sorted(named, key=_step_of, reverse=True)


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones are named in a warning and passed over.

    Raises:
        CheckpointError: there are checkpoints and not one is whole.
    """
    paths = list_checkpoints(folder)
    for path in paths:
        try:
            return open_checkpoint(path)
        except DamagedCheckpointError as error:
            if list_checkpoints(folder)[:1] != paths[:1]:
                # A run under way has saved another one, and removed this one.
                return latest_checkpoint(folder)
            logger.warning("%s; falling back to the checkpoint before it", error)
    if paths:
        raise CheckpointError(
            f"no checkpoint under {folder} is whole: remove the folder to start the run again from its first step"
        )
    return None


def open_checkpoint(path: Path) -> Checkpoint:
    """Verifies the size and hash of every file of the checkpoint at `path`.

    Raises:
        DamagedCheckpointError: a file is missing, truncated or altered.
        CheckpointError: the format is another version's.
    """
    try:
        manifest = json.loads((path / MANIFEST_FILE).read_text(encoding="utf-8"))
        files = dict(manifest["files"])
        version, seal = manifest["format_version"], manifest.pop("seal")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(f"checkpoint {path} is damaged: {MANIFEST_FILE} cannot be read") from error
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"checkpoint {path} has format {version} and this bertkit reads {FORMAT_VERSION}: use the bertkit it was "
            "written with, or another --output-dir"
        )
    if seal != _seal(manifest):
        raise DamagedCheckpointError(f"checkpoint {path} is damaged: {MANIFEST_FILE} was altered")
    if not _is_sound(manifest):
        raise DamagedCheckpointError(f"checkpoint {path} is damaged: {MANIFEST_FILE} counts what cannot be counted")
    for name, expected in files.items():
        try:
            if (path / name).stat().st_size != expected["bytes"]:
                raise DamagedCheckpointError(f"checkpoint {path} is damaged: {name} is truncated")
            if _fingerprint(path / name) != expected:
                raise DamagedCheckpointError(f"checkpoint {path} is damaged: {name} does not match its hash")
        except FileNotFoundError as error:
            raise DamagedCheckpointError(f"checkpoint {path} is damaged: {name} is missing") from error
    return Checkpoint(path, manifest)


def _is_sound(manifest: dict[str, Any]) -> bool:
    """Whether the counters are whole numbers from 0, the seconds a number, and the files what a checkpoint holds."""
    position = manifest.get("position")
    counters = [manifest.get(name) for name in COUNTERS if name != "elapsed_s"]
    if isinstance(position, dict):
        counters += position.values()
    return (
        all(type(count) is int and 0 <= count < 1 << 63 for count in counters)
        and type(manifest.get("elapsed_s")) in (int, float)
        and math.isfinite(manifest["elapsed_s"])
        and isinstance(position, dict | None)
        and isinstance(manifest.get("scaler"), dict | None)
        and manifest["files"].keys() == {MODEL_FILE, OPTIMIZER_FILE}
        and all(isinstance(file, dict) and "bytes" in file for file in manifest["files"].values())
    )


def restore(
    checkpoint: Checkpoint,
    state: TrainState,
    *,
    model: nn.Module,
    position: Callable[[dict[str, int]], Any],
    scaler: Any = None,
) -> None:
    """Puts a verified checkpoint into `state`, exactly; `position` builds the loader's position from its dict."""
    load_weights(checkpoint, model)
    with refused_as(DamagedCheckpointError, f"checkpoint {checkpoint.path} is damaged: {OPTIMIZER_FILE} does not fit"):
        restore_optimizer(model, state.optimizer, load_file(checkpoint.path / OPTIMIZER_FILE))
    for name in COUNTERS:
        setattr(state, name, checkpoint.manifest[name])
    saved = checkpoint.manifest["position"]
    with refused_as(
        DamagedCheckpointError, f"checkpoint {checkpoint.path} is damaged: {MANIFEST_FILE} has no position"
    ):
        state.position = None if saved is None else position(saved)
    if scaler is not None and checkpoint.manifest["scaler"]:
        scaler.load_state_dict(checkpoint.manifest["scaler"])


@torch.no_grad()
def load_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Copies a verified checkpoint's weights into `model`, whose tensors must be exactly those.

    Raises:
        CheckpointError: the checkpoint is of a model of another shape.
    """
    take_apart(model)
    own = dict(_named_tensors(model))
    damaged = refused_as(
        DamagedCheckpointError, f"checkpoint {checkpoint.path} is damaged: {MODEL_FILE} cannot be read"
    )
    with damaged, safe_open(checkpoint.path / MODEL_FILE, framework="pt") as saved:
        shapes = {name: saved.get_slice(name).get_shape() for name in saved.keys()}  # noqa: SIM118  # no mapping
        if shapes != {name: list(tensor.shape) for name, tensor in own.items()}:
            raise CheckpointError(
                f"checkpoint {checkpoint.path} is of a model of another shape than config.yaml describes"
            )
        for name, tensor in own.items():
            tensor.copy_(shard_like(saved.get_tensor(name), tensor))


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and persistent buffer of `model` once, tied ones under their first name."""
    return _detached(dict(_named_tensors(model)))


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    persistent = model.state_dict()
    yield from ((name, buffer) for name, buffer in model.named_buffers() if name in persistent)


def _remove_all_but(newest: Path, folder: Path, *, keep: int | None, best_step: int | None) -> None:
    older = [p for p in list_checkpoints(folder) if _step_of(p) < _step_of(newest) and _step_of(p) != best_step]
    later = [path for path in list_checkpoints(folder) if _step_of(path) > _step_of(newest)]
    # Killed in the middle of a checkpoint, a run may save its next ones at other steps.
    half_written = folder.glob(".step-*.partial")
    for path in [*later, *half_written, *(older[keep - 1 :] if keep is not None else [])]:
        shutil.rmtree(path, ignore_errors=True)


def _step_of(path: Path) -> int:
    return int(path.name.removeprefix("step-"))


def _detached(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in tensors.items()}


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
    return {"bytes": path.stat().st_size, "xxh3_128": digest.hexdigest()}


def _seal(manifest: dict[str, Any]) -> str:
    """A hash of the manifest itself: its counters decide where the data goes on."""
    return xxhash.xxh3_128_hexdigest(json.dumps(manifest, sort_keys=True).encode())


def _why_not_written(error: Exception, path: Path) -> str:
    full = isinstance(error, OSError) and error.errno in DISK_FULL
    if full or any(f"os error {code}" in str(error) or f"code: {code}" in str(error) for code in DISK_FULL):
        return f"the disk is full, so checkpoint {path} was not written: free some space and run the same command again"
    return f"checkpoint {path} cannot be written: {error}"
