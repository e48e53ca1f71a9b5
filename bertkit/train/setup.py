"""accelerate set up for one run: device, precision, processes, trackers."""

from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

import torch
import xxhash
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedType, GradientAccumulationPlugin, broadcast

from bertkit.errors import ConfigError
from bertkit.installed import is_installed
from bertkit.train.sharding import sharding_plugin, wants_sharding

Precision = Literal["fp32", "bf16", "fp16"]
Item = TypeVar("Item")


def resolve_precision(precision: Literal["auto", "fp32", "bf16", "fp16"], *, device: torch.device) -> Precision:
    """'auto' as bf16 where `device` multiplies it fast, else fp32.

    Raises:
        ConfigError: fp16 on a device that cannot train in it.
    """
    if precision == "fp16" and device.type == "cpu":
        raise ConfigError("train.precision fp16 needs a GPU: set it to bf16 or fp32")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        has = torch.cpu.get_capabilities()
        return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"
    return "fp32"


def build_accelerator(
    precision: Literal["auto", "fp32", "bf16", "fp16"], *, trackers: Sequence[str] = ()
) -> Accelerator:
    """An Accelerator for this process at `precision`, for which `trackers` can be started.

    Raises:
        ConfigError: a tracker's package is missing, the device lacks the precision, or the weights cannot be spread so.
    """
    for tracker in trackers:
        _require_tracker(tracker)
    shards = wants_sharding()
    # accelerate keeps its settings for the life of the process; a second run in it may want others.
    AcceleratorState._reset_state()
    device = Accelerator().device
    AcceleratorState._reset_state()
    # A Trainer that was left in the middle of a step would have every optimizer skip its updates.
    GradientState._reset_state()
    resolved = resolve_precision(precision, device=device)
    dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[resolved]
    sharding = sharding_plugin(dtype) if shards else None
    accelerator = Accelerator(
        mixed_precision="no" if resolved == "fp32" else resolved,
        fsdp_plugin=sharding,
        # The loop accumulates by itself: an environment variable of accelerate's must not divide once more.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        # Batches come from bertkit's own loader, already this process's share.
        step_scheduler_with_optimizer=False,
    )
    if sharding is not None and accelerator.distributed_type == DistributedType.MULTI_CPU:
        # accelerate would pass over what it was asked for: it shards on accelerators only, torch on a CPU too.
        accelerator.state.fsdp_plugin = sharding
        accelerator.state.distributed_type = DistributedType.FSDP
    return accelerator


def _require_tracker(name: str) -> None:
    if not is_installed(name):
        raise ConfigError(f"every.trackers names {name}, which is not installed: pip install {name}, or leave it out")


def anyone(accelerator: Accelerator, flag: bool) -> bool:
    """Whether `flag` is true on any process: all leave the loop at the same step, or the rest would wait for ever."""
    if accelerator.num_processes == 1:
        return flag
    votes = accelerator.reduce(torch.tensor(int(flag), device=accelerator.device), "sum")
    return int(votes) > 0


def main_says(accelerator: Accelerator, value: float) -> float:
    """The main process's `value` on every process; clocks differ, decisions made by them must not."""
    if accelerator.num_processes == 1:
        return value
    return float(broadcast(torch.tensor(value, dtype=torch.float64, device=accelerator.device)))


def sum_over_processes(accelerator: Accelerator, values: Sequence[float]) -> list[float]:
    """Every one of the `values` added up over the processes, in float64 where the device has it."""
    if accelerator.num_processes == 1:
        return list(values)
    precision = torch.float32 if accelerator.device.type == "mps" else torch.float64
    return list(accelerator.reduce(torch.tensor(values, dtype=precision, device=accelerator.device), "sum").tolist())


def dealt(items: Sequence[Item], accelerator: Accelerator) -> Iterator[tuple[Item, bool]]:
    """This process's part of `items`, each of which counts on one process only.

    Every process gets as many, because parameters that are spread over processes need the same forward passes on all:
    where the items do not divide, the last ones of a process are another's and do not count.
    """
    rank, number = accelerator.process_index, accelerator.num_processes
    for start in range(0, len(items), number):
        counts = start + rank < len(items)
        yield items[start + rank if counts else start], counts


def close_accelerator(accelerator: Accelerator) -> None:
    """Ends trackers and frees the model, all processes together.

    The process group stays for the next run of this process: a second one would meet at the addresses of the first.
    """
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.trackers = []
    accelerator.wait_for_everyone()


def seed_step(seed: int, *, step: int, rank: int) -> None:
    """Seeds torch for one optimizer step of one process, which makes dropout a function of these three numbers."""
    torch.manual_seed(xxhash.xxh3_64_intdigest(f"{seed}/{step}/{rank}".encode()))
