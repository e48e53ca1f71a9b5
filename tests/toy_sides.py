"""Sides of a comparison that do nothing but say when; a module of its own, because each process imports it."""

import os
import time
from pathlib import Path

from bertkit.errors import ConfigError
from bertkit.workflows.bench.sides import Round, Worker, reset_peak


def clocked(name: str, log: Path) -> Worker:
    """Writes down when it worked: name, steps, process, start, end."""
    base = reset_peak("cpu")

    def work(steps: int) -> Round:
        started_s = time.monotonic()
        time.sleep(0.01)
        with log.open("a") as file:
            file.write(f"{name} {steps} {os.getpid()} {started_s} {time.monotonic()}\n")
        return Round((0.5,) * steps, amount=10 * steps)

    return Worker(work, pace_s=1.0, base_bytes=base, settings={"name": name})


def refusing() -> Worker:
    """Cannot be built."""
    raise ConfigError("this cannot\nbe measured: take another")


def failing() -> Worker:
    """Fails when it is asked to work."""

    def work(steps: int) -> Round:
        raise ValueError("at the first round")

    return Worker(work, pace_s=1.0)


def dying() -> Worker:
    """Is killed."""
    os._exit(9)
