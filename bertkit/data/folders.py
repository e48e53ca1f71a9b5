"""Folders to write into: made, or refused in one sentence."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bertkit.errors import DISK_FULL, CorpusError

NOT_ALLOWED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; raises CorpusError when that cannot be."""
    with folder_named(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def folder_named(folder: Path) -> Iterator[None]:
    """Turn what the system says against a folder into an error that says what to do."""
    try:
        yield
    except OSError as error:
        raise CorpusError(
            f"the folder {folder} cannot be made: {error.strerror or error}; choose another --output-dir"
        ) from error


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn a full disk, or a folder one may not write to, into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in NOT_ALLOWED:
            raise CorpusError(f"cannot write to {folder} ({error.strerror}): choose another --output-dir") from error
        if error.errno not in DISK_FULL:
            raise
        raise CorpusError(
            f"the disk that holds {folder} is full ({error.strerror}): free some space and run it again, it continues"
        ) from error
