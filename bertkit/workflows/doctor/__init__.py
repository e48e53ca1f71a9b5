"""Examines what a run depends on: versions, devices, disks, caches, and the run itself."""

from collections.abc import Callable
from pathlib import Path

from bertkit.workflows.doctor.machine import check_caches, check_devices, check_disks, check_hub, check_packages
from bertkit.workflows.doctor.outcome import Check
from bertkit.workflows.doctor.run import check_run

__all__ = ["Check", "examine"]


def examine(run_path: Path | None = None) -> list[Check]:
    """Checks the machine and a run, the newest one if left out; nothing is sent anywhere.

    Raises:
        CheckpointError: `run_path` is not a run.
    """
    parts: tuple[Callable[[], list[Check]], ...] = (check_packages, check_devices, check_disks, check_caches, check_hub)
    return [*(check for part in parts for check in part()), *check_run(run_path)]
