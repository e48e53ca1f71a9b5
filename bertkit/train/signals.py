"""Ctrl-C, SIGTERM and SLURM's SIGUSR1 as a request to stop: at the end of the step in training, at once elsewhere."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, Self

# SIGUSR1 is what SLURM sends ahead of the end of a job (--signal=USR1@120), SIGHUP what a lost terminal sends.
# Windows has neither.
STOPPING: Final[tuple[int, ...]] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name)
)
# A group of processes may be sent Ctrl-C as one, and a launcher in it passes the signal on once more.
ECHO_S: Final = 2.0


class StoppedError(BaseException):
    """A signal asked to stop where there is nothing to save."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = exit_code(signal.Signals(number).name)


def exit_code(name: str) -> int:
    """What a process that was stopped by the signal of this name exits with: 128 + its number, as shells say."""
    return 128 + signal.Signals[name]


class StopSignals:
    """While entered, the first signal to stop is remembered in `received`; a SIGINT after it interrupts at once.

    interrupts: where False, that one is remembered too, in `is_urgent`, for whoever must not be left just anywhere.
    """

    def __init__(self, *, interrupts: bool = True) -> None:
        self.received: signal.Signals | None = None
        self.is_urgent = False
        self._interrupts = interrupts
        self._received_s = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._previous = _handle(STOPPING, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _put_back(self._previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._received_s = signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT and not self._is_echo():
            self.is_urgent = True
            if self._interrupts:
                raise KeyboardInterrupt

    def _is_echo(self) -> bool:
        return "LOCAL_RANK" in os.environ and time.monotonic() - self._received_s < ECHO_S


@contextmanager
def stopped_at_once() -> Iterator[None]:
    """While entered, SIGTERM and SIGUSR1 end the work under way as Ctrl-C does, by an exception.

    Raises:
        StoppedError: one of them came.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedError(number)

    previous = _handle([number for number in STOPPING if number != signal.SIGINT], stop)
    try:
        yield
    finally:
        _put_back(previous)


def _handle(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """The handlers that were there before."""
    # Python delivers signals to the main thread only; elsewhere there is nothing to catch.
    if threading.current_thread() is not threading.main_thread():
        return {}
    # What is ignored, as SIGHUP under nohup, stays ignored.
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in heard}


def _put_back(previous: dict[int, Any]) -> None:
    for number, handler in previous.items():
        signal.signal(number, handler)
