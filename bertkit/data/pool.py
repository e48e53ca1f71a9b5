"""Work in many processes, its results in order, little of it waiting at a time."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from bertkit.errors import CorpusError

Item = TypeVar("Item")
Result = TypeVar("Result")

SECONDS_FOR_A_SIGNAL: Final = 0.5


def ordered_map(work: Callable[[Item], Result], items: Iterable[Item], *, num_workers: int) -> Iterator[Result]:
    """Results of `work` on each item, in order; one worker works in this process.

    Items are taken only as workers need them. `work` must be importable, and not from `__main__`, which workers do not
    run. Whatever ends the work early ends the workers at once. Raises CorpusError when a worker process was killed.
    """
    if num_workers <= 1:
        yield from map(work, items)
        return
    # Not forked: this process has threads, of the tokenizer and of Arrow, that a fork would leave locked.
    context = multiprocessing.get_context("spawn")
    _start_resource_tracker()
    executor = ProcessPoolExecutor(num_workers, mp_context=context, initializer=_begin_worker)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            # The executor starts its processes one by one, as work comes.
            with main_module_hidden():
                waiting.append(executor.submit(work, item))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        # A signal to all processes of a job may end a worker just before it is this one's turn.
        time.sleep(SECONDS_FOR_A_SIGNAL)
        raise CorpusError(
            "a worker process was killed, most often because memory ran out: run it again, it continues; "
            "with fewer processes (--set data.num_workers=1) it needs less memory"
        ) from error
    except BaseException:
        _kill_workers(executor)
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _start_resource_tracker() -> None:
    """Python's own helper process, which hears no signal that a whole job is sent: it tidies up after that."""
    if not hasattr(signal, "pthread_sigmask"):
        return
    from multiprocessing import resource_tracker

    # Those that it does not ignore by itself; what is blocked stays so in a process started meanwhile.
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGHUP})
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _kill_workers(executor: ProcessPoolExecutor) -> None:
    # ProcessPoolExecutor.kill_workers of Python 3.14.
    for process in list((executor._processes or {}).values()):
        process.kill()


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def main_module_hidden() -> Iterator[None]:
    """Processes started meanwhile do not run the user's script again, which may have no `if __name__ == "__main__"`."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {name: vars(main)[name] for name in ("__file__", "__spec__") if name in vars(main)}
    vars(main).pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


def _begin_worker() -> None:
    """Ctrl-C, SLURM's SIGUSR1 and a lost terminal's SIGHUP are the main process' to handle.

    A worker outlives it never, even when killed. SIGTERM ends a worker: so the executor ends those of a broken pool.
    """
    for name in ("SIGINT", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    # One process a core already: threads of the tokenizer would only compete.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=exit_with_parent, daemon=True).start()


def exit_with_parent() -> None:
    """Ends this process as soon as the one that started it is gone; to be run in a thread."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
