"""accelerate set up for one run: device, precision, processes, trackers."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch
import xxhash
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import GradientAccumulationPlugin, broadcast, broadcast_object_list

from bertkit.errors import BertkitError, ConfigError

Precision = Literal["fp32", "bf16", "fp16"]


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
    precision: Literal["auto", "fp32", "bf16", "fp16"], *, run_dir: Path | None = None, trackers: Sequence[str] = ()
) -> Accelerator:
    """An Accelerator for this process at `precision`, logging to `trackers` under `run_dir`.

    Raises:
        ConfigError: a tracker's package is missing, or the device lacks the precision.
    """
    for tracker in trackers:
        if find_spec(tracker) is None:
            raise ConfigError(
                f"every.trackers names {tracker}, which is not installed: pip install {tracker}, or leave it out"
            )
    # accelerate keeps its settings for the life of the process; a second run in it may want others.
    AcceleratorState._reset_state()
    device = Accelerator().device
    AcceleratorState._reset_state()
    # A Trainer that was left in the middle of a step would have every optimizer skip its updates.
    GradientState._reset_state()
    resolved = resolve_precision(precision, device=device)
    return Accelerator(
        mixed_precision="no" if resolved == "fp32" else resolved,
        log_with=list(trackers) or None,
        project_dir=str(run_dir) if run_dir else None,
        # The loop accumulates by itself: an environment variable of accelerate's must not divide once more.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        # Batches come from bertkit's own loader, already this process's share.
        step_scheduler_with_optimizer=False,
    )


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


def on_main_first(accelerator: Accelerator, work: Callable[[], None]) -> None:
    """Does `work` on the main process while the others wait; where it fails, all fail, and the main one says why.

    Raises:
        BertkitError: what `work` raised.
    """
    error: BertkitError | None = None
    if accelerator.is_main_process:
        try:
            work()
        except BertkitError as raised:
            error = raised
    if accelerator.num_processes > 1 and broadcast_object_list([str(error or "")])[0] and error is None:
        error = BertkitError("the main process could not begin")
    if error is not None:
        raise error


def close_accelerator(accelerator: Accelerator) -> None:
    """Ends trackers and process group in an order in which no process waits for one that is gone."""
    accelerator.wait_for_everyone()
    # A wrapped model must go before the group it talks through.
    accelerator.free_memory()
    accelerator.end_training()


def seed_step(seed: int, *, step: int, rank: int) -> None:
    """Seeds torch for one optimizer step of one process, which makes dropout a function of these three numbers."""
    torch.manual_seed(xxhash.xxh3_64_intdigest(f"{seed}/{step}/{rank}".encode()))
