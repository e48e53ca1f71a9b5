"""The processes of one launch: waiting for the main one without a collective, and noticing when one is gone.

They talk through torch's own key-value store, beside the process group: no collective is under way while the main
process prepares, so none can time out, however long that takes.
"""

import atexit
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import count
from typing import Final

import torch
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # public, not in its stubs

from bertkit.errors import BertkitError, ConfigError, SaidElsewhereError

logger = logging.getLogger(__name__)

BEAT_S: Final = 2.0
# A process may hold Python's lock for a while; a dead one stops the others within a minute.
SILENT_BEATS: Final = 20
POLL_S: Final = 0.2
GONE_KEY: Final = "gone"


class ProcessGoneError(BertkitError):
    """Another process of the launch ended before its work was done."""

    # EX_TEMPFAIL of sysexits.h: nothing was wrong with what was asked for, and trying again is right.
    exit_code = 75

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is gone, so the others stop: run the same command again, training goes on as saved")


class Processes:
    """The processes that `torchrun`, `accelerate launch` or `srun` started together; one alone needs none of it."""

    def __init__(self, rank: int = 0, number: int = 1, store: Store | None = None) -> None:
        self.rank, self.number = rank, number
        self._store = store
        self._turns, self._watches = count(), count()
        if self._store is not None:
            self._store.set(f"name/{rank}", f"process {rank} of {number} (host {socket.gethostname()})")

    @property
    def is_main(self) -> bool:
        """Whether this process prepares, saves and talks."""
        return self.rank == 0

    def main_first(self, work: Callable[[], object]) -> None:
        """Does `work` on the main process while the others wait for as long as it takes; where it fails, all fail.

        Raises:
            BertkitError: what `work` raised; on the other processes, that it did.
        """
        key = f"main/{next(self._turns)}"
        if self._store is None:
            work()
        elif not self.is_main:
            while not self._store.check([key]):
                time.sleep(POLL_S)
            if reason := self._store.get(key).decode():
                raise SaidElsewhereError(f"the main process could not go on: {reason}")
        else:
            try:
                work()
            except BaseException as error:
                self._store.set(key, str(error) or type(error).__name__)
                raise
            self._store.set(key, "")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While entered, this process ends within a minute of the end of any other, and says whose it was.

        Raises:
            ProcessGoneError: a collective failed because a process is gone.
        """
        if self._store is None:
            yield
            return
        heartbeat = Heartbeat(self._store, self.rank, self.number, watch=next(self._watches))
        heartbeat.start()
        try:
            yield
            heartbeat.say_done()
        except BaseException as error:
            # Others may be gone, and NCCL would wait for them.
            atexit.unregister(_leave_process_group)
            if isinstance(error, RuntimeError) and (gone := heartbeat.find_gone()):
                raise ProcessGoneError(gone) from error
            raise
        finally:
            heartbeat.stop()


class Heartbeat(threading.Thread):
    """Says every `beat_s` seconds that this process lives, and watches the next one; `on_gone` hears who is gone."""

    def __init__(
        self,
        store: Store,
        rank: int,
        number: int,
        *,
        watch: int = 0,
        beat_s: float | None = None,
        silent_beats: int = SILENT_BEATS,
        on_gone: Callable[[str, bool], None] | None = None,
    ) -> None:
        super().__init__(name="bertkit-heartbeat", daemon=True)
        # What is said of one watch is not to be taken for the next one's.
        self._store, self._rank, self._number = PrefixStore(f"watch/{watch}", store), rank, number
        self._names = store
        self._beat_s, self._silent_beats = beat_s or BEAT_S, silent_beats
        self._on_gone = on_gone or _end
        self._watched = (rank + 1) % number
        self._stopped = threading.Event()

    def run(self) -> None:
        """Beats until stopped; silence is counted in beats of its own, so a stopped machine is no dead process."""
        last, silent = 0, 0
        try:
            while not self._stopped.is_set():
                self._store.add(f"beat/{self._rank}", 1)
                if self._store.check([GONE_KEY]):
                    self._on_gone(self._store.get(GONE_KEY).decode(), False)
                    return
                beats = self._store.add(f"beat/{self._watched}", 0)
                # One that has not begun to beat is still starting, and one that is done needs no heart.
                is_silent = beats == last and beats and not self._is_done(self._watched)
                silent = silent + 1 if is_silent else 0
                last = beats
                if silent >= self._silent_beats:
                    gone = self._name_of(self._watched)
                    self._store.set(GONE_KEY, gone)
                    self._on_gone(gone, True)
                    return
                self._stopped.wait(self._beat_s)
        except RuntimeError:
            # The main process holds the store where no launcher does.
            if not self._stopped.is_set():
                self._on_gone(self._holder, True)

    def say_done(self) -> None:
        """Tells the others that this process ends because its work is done; the main one waits until all have said so.

        It may hold the store that the others still talk through.
        """
        # Whoever holds the store may be done, and gone, already.
        with suppress(RuntimeError):
            self._store.set(f"done/{self._rank}", "")
            while self._rank == 0 and not self._store.check([f"done/{rank}" for rank in range(self._number)]):
                time.sleep(POLL_S)

    def stop(self) -> None:
        """Ends the thread."""
        self._stopped.set()
        self.join()

    def find_gone(self) -> str | None:
        """The processes whose hearts do not beat, by name, found within a few beats; None when all do."""
        try:
            before = self._beats()
            time.sleep(3 * self._beat_s)
            silent = [rank for rank, beats in enumerate(self._beats()) if beats == before[rank]]
            gone = [rank for rank in silent if rank != self._rank and not self._is_done(rank)]
            return ", ".join(map(self._name_of, gone)) or None
        except RuntimeError:
            return self._holder

    def _is_done(self, rank: int) -> bool:
        return bool(self._store.check([f"done/{rank}"]))

    @property
    def _holder(self) -> str:
        return f"process 0 of {self._number}, or the launcher that held its store,"

    def _beats(self) -> list[int]:
        return [self._store.add(f"beat/{rank}", 0) for rank in range(self._number)]

    def _name_of(self, rank: int) -> str:
        key = f"name/{rank}"
        return self._names.get(key).decode() if self._names.check([key]) else f"process {rank} of {self._number}"


@lru_cache(maxsize=1)
def launched_processes() -> Processes:
    """The launch that this process is part of, by the variables that launchers set; the same value every time."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise ConfigError(
            f"WORLD_SIZE says that there are several processes, and {' and '.join(missing)} is not set: start them "
            "with --nproc, torchrun, accelerate launch or srun, or unset WORLD_SIZE"
        )
    atexit.register(_leave_process_group)
    return Processes(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), _connect())


def _leave_process_group() -> None:
    """All together, at the end of their work."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _connect() -> Store:
    """The store of the launch: the launcher's, or one that the main process holds."""
    held_by_launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        int(os.environ["WORLD_SIZE"]),
        is_master=not held_by_launcher and os.environ["RANK"] == "0",
        # Whoever asks for the same port in this process, as the process group will, is given the same store.
        multi_tenant=True,
        wait_for_workers=False,
    )
    return PrefixStore(f"bertkit/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _end(gone: str, noticed: bool) -> None:
    """Ends this process although its main thread may wait for ever in a collective; one process says why."""
    if noticed:
        logger.critical("%s", ProcessGoneError(gone))
    os._exit(ProcessGoneError.exit_code)
