"""`bertkit bench startup`: the time until `bertkit --help` has answered."""

import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

from bertkit.workflows.bench.compare import BenchResult, Comparison, Pair, compare
from bertkit.workflows.bench.sides import Round, Side, Worker

if TYPE_CHECKING:
    from bertkit.workflows.bench.request import Request

COMMANDS = {
    "import typer, rich": (sys.executable, "-c", "import typer, rich"),
    "bertkit --help": (sys.executable, "-m", "bertkit", "--help"),
}
PROCESSES_A_ROUND = 5


def bench_startup(request: "Request") -> BenchResult:
    """Takes the two commands in turn; the ratio is how many times longer ours takes."""
    # Not above: the processes that are measured from import this file.
    from bertkit.workflows.bench.request import machine

    ours, theirs = "bertkit --help", "import typer, rich"
    comparison = Comparison(
        subject="startup",
        unit="starts/s",
        sides=tuple(Side(name, partial(build, name)) for name in (ours, theirs)),
        pairs=(Pair("bertkit --help over import typer, rich: less is better", theirs, ours),),
        settings={"interpreter": sys.executable},
        machine=machine(),
        has_memory=False,
    )
    return compare(comparison, rounds=request.rounds, steps=PROCESSES_A_ROUND, watch=request.watch)


def build(name: str) -> Worker:
    """A side that starts one command, again and again."""

    def work(steps: int) -> Round:
        return Round(tuple(_seconds(COMMANDS[name]) for _ in range(steps)), amount=steps)

    return Worker(work, pace_s=work(1).total_s)


def _seconds(command: tuple[str, ...]) -> float:
    started_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started_s
