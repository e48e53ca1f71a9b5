"""What runs in a worker process. Nothing of torch is imported before the worker knows its device and its threads."""

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertkit.workflows.ablate.cells import Outcome
    from bertkit.workflows.ablate.plan import Cell

# How often a worker whose parent is gone is told to end.
SECONDS_BETWEEN_SIGNALS = 5.0

_to_parent: list[Connection] = []


def begin(environment: Mapping[str, str], log: str, to_parent: Connection) -> None:
    """Makes this process a worker: its device and threads by `environment`, what it prints to the file `log`."""
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            os.dup2(file, stream.fileno())
    # A crash of a library leaves where it was.
    faulthandler.enable()
    if os.name != "nt":
        # Ctrl-C comes to all processes of a terminal; the parent hears it, and says it to each once, as SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    _to_parent[:] = [to_parent]
    to_parent.send(os.getpid())
    threading.Thread(target=_end_with_parent, daemon=True).start()


def work(cell: "Cell", log: Path, keep_models: bool) -> "Outcome":
    """Runs a cell, telling the parent how far it is."""
    from bertkit.train.signals import StoppedError, stopped_at_once
    from bertkit.workflows.ablate.cells import Outcome, run_cell
    from bertkit.workflows.ablate.watch import CellWatch

    try:
        with stopped_at_once():
            return run_cell(cell, log, watch=CellWatch(cell.key, _tell), keep_models=keep_models)
    except StoppedError as stop:
        # Between the lines of that, too.
        return Outcome(cell.key, "stopped", reason=str(stop))


def _tell(progress: Any) -> None:
    # A parent that is gone is noticed elsewhere.
    with suppress(OSError):
        _to_parent[0].send(progress)


def _end_with_parent() -> None:
    """Has the cell saved and ended when nobody is left to hear of it."""
    parent = parent_process()
    if parent is None:
        return
    parent.join()
    while True:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SECONDS_BETWEEN_SIGNALS)
