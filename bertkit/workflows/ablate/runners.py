"""Cells one after the other in this process, or side by side in workers, one a device."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import torch

from bertkit.data.pool import usable_cores
from bertkit.errors import ConfigError
from bertkit.train.signals import StopSignals
from bertkit.workflows.ablate import worker
from bertkit.workflows.ablate.cells import Outcome, run_cell
from bertkit.workflows.ablate.plan import Cell
from bertkit.workflows.ablate.todo import Todo
from bertkit.workflows.ablate.watch import AblationWatcher, CellWatch, Progress

LOGS: Final = "logs"
SECONDS_BETWEEN_LOOKS: Final = 0.5


def count_workers(asked: int | None) -> int:
    """How many cells run at once: as many as asked, else one a GPU, or one.

    Raises:
        ConfigError: there are not so many GPUs.
    """
    devices = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    if asked is not None and devices and asked > devices:
        raise ConfigError(f"--parallel {asked} asks for a GPU a cell, and there are {devices}: lower it")
    return asked or max(1, devices)


def environments(workers: int) -> list[dict[str, str]]:
    """What every worker's environment says of its device and its threads."""
    if torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
        return [{"CUDA_VISIBLE_DEVICES": devices[number]} for number in range(workers)]
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, usable_cores() // workers))
    return [{"OMP_NUM_THREADS": threads}] * workers


def log_of(path: Path, cell: Cell) -> Path:
    """The file that a cell's log goes to."""
    return path / LOGS / f"{'-'.join(cell.path.relative_to(path).parts)}.log"


def one_by_one(todo: Todo, path: Path, *, watch: AblationWatcher, keep_models: bool) -> Iterator[tuple[Cell, Outcome]]:
    """Every cell with how it ended; nothing more behind one that a signal stopped."""
    while (cell := todo.take()) is not None:
        watch.started(cell)
        outcome = run_cell(cell, log_of(path, cell), watch=CellWatch(cell.key, watch.progress), keep_models=keep_models)
        yield cell, outcome
        if outcome.state == "stopped":
            return


def side_by_side(
    todo: Todo, path: Path, *, workers: int, watch: AblationWatcher, keep_models: bool
) -> Iterator[tuple[Cell, Outcome]]:
    """Every cell with how it ended; behind a signal only those that were under way, which save and stop."""
    (path / LOGS).mkdir(parents=True, exist_ok=True)
    slots = [Slot(number, values, path) for number, values in enumerate(environments(workers), start=1)]
    try:
        with StopSignals() as signals:
            while True:
                if signals.received is None:
                    _fill(slots, todo, watch=watch, keep_models=keep_models)
                under_way = [slot.given.future for slot in slots if slot.given is not None]
                if not under_way:
                    return
                wait(under_way, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
                for slot in slots:
                    for progress in slot.heard():
                        watch.progress(progress)
                    if signals.received is not None:
                        slot.stop()
                    if (over := slot.take_back(stopped_by=signals.received)) is not None:
                        yield over
    finally:
        for slot in slots:
            slot.close()


def _fill(slots: Sequence["Slot"], todo: Todo, *, watch: AblationWatcher, keep_models: bool) -> None:
    for slot in slots:
        if slot.given is None and (cell := todo.take()) is not None:
            watch.started(cell)
            slot.give(cell, keep_models=keep_models)


@dataclass(frozen=True)
class _Given:
    """A cell that a worker has."""

    cell: Cell
    future: Future[Outcome]


class Slot:
    """A device, or some threads, and the worker process that has them: a new one when it is lost."""

    def __init__(self, number: int, environment: Mapping[str, str], path: Path) -> None:
        self.given: _Given | None = None
        self._environment = environment
        # What the worker prints, and where it crashed.
        self._log = path / LOGS / f"worker-{number}.log"
        self._path = path
        self._executor: ProcessPoolExecutor | None = None
        self._from_worker: Connection | None = None
        self._pid: int | None = None
        self._is_told = False

    def give(self, cell: Cell, *, keep_models: bool) -> None:
        """Has the worker run a cell."""
        executor = self._executor or self._open()
        self.given = _Given(cell, executor.submit(worker.work, cell, log_of(self._path, cell), keep_models))

    def heard(self) -> Iterator[Progress]:
        """What the worker has told since."""
        while self._from_worker is not None:
            try:
                if not self._from_worker.poll():
                    return
                told = self._from_worker.recv()
            except (EOFError, OSError):
                return
            if not isinstance(told, Progress):
                self._pid = told
            elif self.given is not None and told.key == self.given.cell.key:
                # The last words of a cell may come behind its end.
                yield told

    def stop(self) -> None:
        """Asks the worker once to save and stop; on Windows the terminal has."""
        if self._pid is not None and not self._is_told and os.name != "nt":
            self._is_told = True
            _signal(self._pid, signal.SIGTERM)

    def take_back(self, *, stopped_by: signal.Signals | None) -> tuple[Cell, Outcome] | None:
        """The cell that is over and how it ended; None where none is."""
        given = self.given
        if given is None or not given.future.done():
            return None
        self.given = None
        try:
            outcome = given.future.result()
        except BrokenProcessPool:
            self.close()
            reason = f"its worker was killed or crashed: see {self._log}; the same command goes on"
            outcome = Outcome(given.cell.key, "lost", reason=reason)
        if stopped_by is not None and outcome.state in ("stopped", "lost"):
            # What the worker heard was this process' way to say it.
            outcome = replace(outcome, state="stopped", reason=stopped_by.name)
        return given.cell, outcome

    def close(self) -> None:
        """Ends the worker."""
        if self.given is not None and self._pid is not None:
            # Whoever asks twice does not wait for a checkpoint.
            _signal(self._pid, getattr(signal, "SIGKILL", signal.SIGTERM))
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
        if self._from_worker is not None:
            self._from_worker.close()
        self._executor = self._from_worker = self._pid = None

    def _open(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        self._from_worker, to_parent = context.Pipe(duplex=False)
        start = (dict(self._environment), str(self._log), to_parent)
        self._executor = ProcessPoolExecutor(1, mp_context=context, initializer=worker.begin, initargs=start)
        return self._executor


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
