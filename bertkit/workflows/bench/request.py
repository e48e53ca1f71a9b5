"""What a user asks `bertkit bench` for, and what every subject does with it alike."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import accelerate
import tokenizers
import torch
import transformers

import bertkit
from bertkit.config.schema import PretrainConfig
from bertkit.data.pool import usable_cores
from bertkit.train.setup import Precision, build_accelerator, resolve_precision
from bertkit.workflows.bench.compare import Pair
from bertkit.workflows.provenance import processor_name
from bertkit.workflows.watch import Unwatched, Watcher

Against = Literal["transformers", "nothing"]


@dataclass(frozen=True)
class Request:
    """One measurement: `corpus` None is the demo corpus; `steps` None are as many as take some seconds a round."""

    config: PretrainConfig
    corpus: str | None = None
    data_dir: Path | None = None
    against: Against = "transformers"
    rounds: int = 5
    steps: int | None = None
    rows: int = 5000
    watch: Watcher = field(default_factory=Unwatched)


@lru_cache(maxsize=1)
def device_type() -> str:
    """The kind of device that training would use here."""
    # Asked once: building an accelerator sets back what one in use, such as Trainer's, shares with it.
    return str(build_accelerator("fp32").device.type)


def default_precision(config: PretrainConfig) -> Precision:
    """What the recipe's precision means on this device."""
    return resolve_precision(config.train.precision, device=torch.device(device_type()))


def precisions_here(config: PretrainConfig) -> tuple[Precision, ...]:
    """float32, and the one that the recipe trains in on this device."""
    default = default_precision(config)
    return ("fp32",) if default == "fp32" else ("fp32", default)


def pairs_of(config: PretrainConfig, theirs: Mapping[str, str]) -> tuple[Pair, ...]:
    """Equal precision each, and our default against theirs, which is float32.

    theirs: names of stock sides without their precision, to the words that say which it is.
    """
    default, pairs = default_precision(config), []
    for name, said in theirs.items():
        for precision in precisions_here(config):
            what = f"equal precision, {precision}{said}"
            pairs.append(Pair(what, f"bertkit {precision}", f"{name} {precision}"))
        pairs.append(Pair(f"default against default{said}", f"bertkit {default}", f"{name} fp32"))
    return tuple(pairs)


def machine() -> dict[str, str]:
    """Device, cores, threads and versions, which the figures belong to."""
    device = device_type()
    name = torch.cuda.get_device_name() if device == "cuda" else processor_name()
    return {
        "device": f"{device}: {name}",
        "cores": f"{usable_cores()} of {os.cpu_count()}, {torch.get_num_threads()} torch threads",
        "system": platform.platform(),
        "versions": ", ".join(
            f"{module.__name__} {module.__version__}"
            for module in (bertkit, torch, transformers, accelerate, tokenizers)
        ),
    }


def quieten_transformers() -> None:
    """No bars and no notes of transformers' in a side's process: the main one shows the progress."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def shape_said(config: PretrainConfig, vocab_size: int) -> dict[str, str]:
    """The settings that both sides share."""
    model, optim = config.model, config.optim
    return {
        "model": (
            f"{model.num_hidden_layers} layers of {model.hidden_size}, {model.num_attention_heads} heads, "
            f"feed-forward {model.intermediate_size}, vocabulary {vocab_size:,}"
        ),
        "dropout": f"{model.hidden_dropout_prob:g}, attention {model.attention_probs_dropout_prob:g}",
        "optimizer": (
            f"learning rate {optim.learning_rate:g}, weight decay {optim.weight_decay:g}, clipped at "
            f"{optim.max_grad_norm:g}, {config.train.global_batch_size} instances a step"
        ),
    }
