"""A folder that one process at a time may write to; the system lets go of it when that process dies."""

import errno
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from filelock import FileLock, Timeout

from bertkit.errors import BertkitError

logger = logging.getLogger(__name__)

LOCK_FILE: Final = ".lock"
# File systems, most often of networks, on which nothing can be locked.
_CANNOT_LOCK: Final = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class FolderInUseError(BertkitError):
    """Another process writes to the folder."""


class FolderLock:
    """Keeps other processes from writing to `folder`, from `take` or entering to `release` or leaving."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / LOCK_FILE
        # An error may be handled, and the lock released, by another thread than the one that took it.
        self._lock = FileLock(self._file, timeout=0, thread_local=False)

    def take(self) -> None:
        """Makes the folder and locks it; nothing happens when this object holds it already.

        Raises:
            FolderInUseError: another process, or another lock of this one, holds it.
            OSError: the folder cannot be made or written.
        """
        if self._lock.is_locked:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            folder = self._file.parent
            raise FolderInUseError(
                f"{folder} is in use by another bertkit{_holder(self._file)}: wait for its end, or take another folder"
            ) from None
        except OSError as error:
            if error.errno not in _CANNOT_LOCK:
                raise
            logger.warning("%s cannot be locked (%s): see that nothing else writes to it", self._file.parent, error)
            return
        # Only a courtesy to whoever is refused; a full disk says so where something is to be kept.
        with suppress(OSError):
            self._file.write_text(f"pid {os.getpid()} on {socket.gethostname()}\n", encoding="utf-8")

    def release(self) -> None:
        """Lets other processes have the folder."""
        if self._lock.is_locked:
            # Still locked: whoever opened this file and waits is told by its missing name, and tries again.
            if os.name != "nt":
                self._file.unlink(missing_ok=True)
            self._lock.release()

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


def _holder(file: Path) -> str:
    """` (pid 1 on host)`, or nothing where it did not say, or may not be read, as on Windows."""
    try:
        name = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
    return f" ({name})" if name else ""
