"""The sides of a comparison: each lives in a process of its own, works when it is asked to, and sleeps in between."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from bertkit.data.pool import exit_with_parent
from bertkit.errors import BertkitError

logger = logging.getLogger(__name__)

SECONDS_TO_END = 5.0


@dataclass(frozen=True)
class Round:
    """What one side did in one round.

    seconds: of every step that counts. amount: of what the result's unit says, over those steps (real tokens, bytes).
    flops: of the model, for the real tokens alone. waited_s: the part of `seconds` spent waiting for data. largest:
    tokens of the largest forward pass so far. outcome: whatever else the subject wants to see.
    """

    seconds: tuple[float, ...]
    amount: float = 0.0
    flops: float = 0.0
    waited_s: float = 0.0
    largest: int = 0
    outcome: Any = None

    @property
    def total_s(self) -> float:
        """Seconds of all steps."""
        return sum(self.seconds)


@dataclass(frozen=True)
class Worker:
    """A side that is built and warm: `work` does a round of so many steps; `pace_s` is what one step takes, about."""

    work: Callable[[int], Round]
    pace_s: float
    settings: Mapping[str, str] = field(default_factory=dict)
    base_bytes: int = 0
    device: str = "cpu"


@dataclass(frozen=True)
class Side:
    """One side: `build` is called in its process, and so must be importable; `precision` is what it multiplies in."""

    name: str
    build: Callable[[], Worker]
    precision: str | None = None


@dataclass(frozen=True)
class Ready:
    """What a side says once it is warm."""

    pace_s: float
    settings: Mapping[str, str]
    base_bytes: int


@dataclass(frozen=True)
class Answer:
    """A round, and the most memory its process has held so far."""

    round: Round
    peak_bytes: int


class RunningSide:
    """A side in its process, which ends with this one."""

    def __init__(self, side: Side) -> None:
        context = multiprocessing.get_context("spawn")
        self.side = side
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, side.build), name=side.name)
        self._process.start()
        theirs.close()
        try:
            self.ready: Ready = self._receive()
        except BaseException:
            self.end()
            raise

    def measure(self, steps: int) -> Answer:
        """Does a round of `steps` steps.

        Raises:
            BertkitError: the side failed or was killed; in one line.
        """
        # A process that is gone is found by what it does not answer.
        with contextlib.suppress(ConnectionError):
            self._pipe.send(steps)
        answer: Answer = self._receive()
        return answer

    def end(self) -> None:
        """Ends the process, whatever it is doing."""
        self._pipe.close()
        self._process.terminate()
        self._process.join(SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _receive(self) -> Any:
        try:
            received = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join(SECONDS_TO_END)
            raise BertkitError(
                f"{self.side.name} was killed (exit code {self._process.exitcode}), most often because memory ran out: "
                "lower train.micro_batch_tokens or max_seq_length, or measure a smaller recipe"
            ) from None
        if isinstance(received, str):
            raise BertkitError(f"{self.side.name}: {received}")
        return received


@contextlib.contextmanager
def running(sides: Sequence[Side], *, on_start: Callable[[str, int], None]) -> Iterator[list[RunningSide]]:
    """The sides, built one after another; all of them are ended behind it, however it is left."""
    with contextlib.ExitStack() as stack:
        opened = []
        for place, side in enumerate(sides):
            on_start(side.name, place)
            opened.append(RunningSide(side))
            stack.callback(opened[-1].end)
        yield opened


def reset_peak(device: str) -> int:
    """Forgets the peak of memory so far, such as that of importing, and returns the bytes held now."""
    if device == "cuda":
        import torch

        torch.cuda.init()
        torch.cuda.reset_peak_memory_stats()
    else:
        # Only Linux can; elsewhere what was imported counts.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_bytes(device)


def peak_bytes(device: str) -> int:
    """The most memory this process has held: of the device on CUDA, else resident in main memory."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024


def _serve(pipe: Connection, build: Callable[[], Worker]) -> None:
    """The life of a side's process: build, then a round whenever it is asked for one."""
    # Ctrl-C is the main process' to handle, standard output the result's; and none outlives the main process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    # A process of ours drives one GPU, where Trainer would take all it sees.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    threading.Thread(target=exit_with_parent, daemon=True).start()
    try:
        worker = build()
        pipe.send(Ready(worker.pace_s, worker.settings, worker.base_bytes))
        while True:
            round = worker.work(pipe.recv())
            pipe.send(Answer(round, peak_bytes(worker.device)))
    except (EOFError, ConnectionError):
        return
    except Exception as error:
        logger.debug("a side failed", exc_info=True)
        pipe.send(_in_one_line(error))


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, BertkitError) else f"{type(error).__name__}: {text}"
