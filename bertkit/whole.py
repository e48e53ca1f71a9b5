"""Files and folders that are whole or absent: written beside their place, synced, and only then given their name."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A place to write a file or folder to, which takes `path`'s name when the block ends well and is gone otherwise.

    Raises OSError where it cannot be synced or renamed; a folder takes the place of an older one.
    """
    aside = aside_of(path)
    _remove(aside)
    try:
        yield aside
        for each in (*aside.rglob("*"), aside) if aside.is_dir() else (aside,):
            _sync(each)
        if aside.is_dir() and path.is_dir():
            shutil.rmtree(path)
        aside.replace(path)
        _sync(path.parent)
    finally:
        _remove(aside)


def aside_of(path: Path) -> Path:
    """Where `path` is written before it is whole; a killed process may leave it behind."""
    return path.with_name(f".{path.name}.partial")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
