"""Where a run's figures come from, in `results.json`: what a model card tells beside them; no path of this machine."""

import json
import platform
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import psutil
import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.schema import EveryConfig, PretrainConfig
from bertkit.data.store import TokenStore
from bertkit.hub.places import base_name, without_places
from bertkit.model.families import config_from
from bertkit.tasks.spec import HubSource
from bertkit.train.energy import metered, read_energy
from bertkit.workflows.runs import RunFolder, describe_environment
from bertkit.workflows.task_data import TaskData

ENERGY_FILE: Final = "energy.json"
_PRECISIONS: Final = {"no": "fp32"}
_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(:[\w.-]+)?")


def provenance_of_pretraining(
    config: PretrainConfig, run: RunFolder, store: TokenStore, accelerator: Accelerator, *, parameters: int
) -> dict[str, Any]:
    """What is known of a pre-training run but for how long it took."""
    manifest = store.manifest
    train, heldout = manifest.splits["train"], manifest.splits["heldout"]
    return {
        **_of_any(run, accelerator, seed=config.train.seed, parameters=parameters),
        "base": _base(config.train.init_from),
        "data": {
            **_named(str(config.corpus)),
            "fingerprint": manifest.fingerprint,
            "documents": train.documents,
            "sentences": train.sentences,
            "tokens": train.tokens,
            "heldout_documents": heldout.documents,
            "vocab_size": manifest.vocab_size,
        },
    }


def provenance_of_finetuning(
    config: FinetuneConfig, run: RunFolder, data: TaskData, accelerator: Accelerator, *, seed: int, parameters: int
) -> dict[str, Any]:
    """What is known of a fine-tuning run but for how long it took."""
    task = config.task
    files = [task.train, *task.evaluate] if task.name is None else []
    return {
        **_of_any(run, accelerator, seed=seed, parameters=parameters),
        "base": _base(config.model.init_from),
        "data": {
            "name": data.spec.name,
            **_source(data.spec.source),
            "files": [base_name(file) for file in files if file],
            "fingerprint": data.content_hash(),
            "evaluation_fingerprint": data.evaluation_hash(),
            "train_examples": len(data.train),
            "evaluate_examples": {split: len(rows) for split, rows in data.evaluate.items()},
        },
    }


def with_cost(provenance: Mapping[str, Any], run: RunFolder, *, elapsed_s: float, tokens: int) -> dict[str, Any]:
    """The provenance of a run that has ended, with what it took: seconds and tokens of training, energy if known."""
    energy = read_energy(run.path / ENERGY_FILE)
    gaps = ", without what was used before a kill" if energy.has_gaps else ""
    return {
        **provenance,
        "elapsed_s": elapsed_s,
        "tokens": tokens,
        "energy_kwh": energy.kwh if energy.by else None,
        "energy_measured_by": f"{energy.by}, whole machine of the main process{gaps}" if energy.by else None,
    }


def measuring_energy(run: RunFolder, every: EveryConfig, accelerator: Accelerator) -> AbstractContextManager[None]:
    """Counts the energy of the machine that the main process runs on, where `every.energy` asks for it."""
    is_asked = every.energy and accelerator.is_main_process
    return metered(run.path / ENERGY_FILE) if is_asked else nullcontext()


def kept_provenance(run: RunFolder, *, step: int | None = None) -> dict[str, Any] | None:
    """The provenance in a run's results, for whoever writes them anew; None where there is none, or of another step."""
    try:
        results = json.loads(run.results_file.read_text(encoding="utf-8"))
        return dict(results["provenance"]) if step in (None, results["step"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def count_parameters(model_class: type[PreTrainedModel], architecture: Mapping[str, Any]) -> int:
    """Parameters of a model of that shape, tied ones once; no weight is made."""
    with torch.device("meta"):
        model: nn.Module = model_class(config_from(architecture))
    return sum(parameter.numel() for parameter in model.parameters())


def processor_name() -> str:
    """What the processor of this machine calls itself."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _of_any(run: RunFolder, accelerator: Accelerator, *, seed: int, parameters: int) -> dict[str, Any]:
    environment = describe_environment() | run.read_environment()
    return {
        "bertkit": environment["bertkit"],
        "command": without_places(environment["command"]),
        "seed": seed,
        "precision": _PRECISIONS.get(accelerator.mixed_precision, accelerator.mixed_precision),
        "parameters": parameters,
        "hardware": {
            "devices": environment["devices"],
            "processor": processor_name(),
            "processor_cores": environment["processor_cores"],
            "processes": accelerator.num_processes,
            "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        },
        "python": environment["python"],
        "system": platform.system(),
        "packages": environment["packages"],
    }


def _base(init_from: str | None) -> dict[str, Any] | None:
    """The model a run began with, its id where it came from the Hub."""
    return None if init_from is None else _named(init_from)


def _named(location: str) -> dict[str, Any]:
    """What a location is called, and its id on the Hub where it is one and nothing of that name lies here."""
    path = Path(location)
    # A folder that has gone meanwhile leaves the one it lay in.
    was_here = path.exists() or (path.parent != Path() and path.parent.exists())
    is_hub_id = not was_here and _HUB_ID.fullmatch(location) is not None
    return {"name": base_name(location), "hub_id": location if is_hub_id else None}


def _source(source: HubSource | None) -> dict[str, Any]:
    if source is None:
        return {"hub_id": None}
    return {"hub_id": source.repo, "config": source.config, "revision": source.revision}
