"""Files and folders that are whole or absent: written beside their place, synced, and only then given their name."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PARTIAL: Final = ".partial"
_RUST_OS_ERROR: Final = re.compile(r"\(os error (\d+)\)")


@contextmanager
def written_whole(path: Path, *, token: str = "") -> Iterator[Path]:
    """A place to write a file or folder to, which takes `path`'s name when the block ends well and is gone otherwise.

    A `token` of its own lets several processes write the same file at once: each is whole, and the last one stays.
    Raises OSError where it cannot be written, synced or renamed; a folder takes the place of an older one.
    """
    aside, outdated = aside_of(path, token), path.with_name(f".{path.name}.outdated")
    _remove(aside)
    if outdated.exists() and not path.exists():
        # Killed between the two renames below: the older one is the only one.
        outdated.replace(path)
    _remove(outdated)
    try:
        with _errors_of_the_system():
            yield aside
        for each in (*aside.rglob("*"), aside) if aside.is_dir() else (aside,):
            _sync(each)
        if aside.is_dir() and path.is_dir():
            # Removed in its place, half of it would stay there when this process is killed meanwhile.
            path.replace(outdated)
        aside.replace(path)
        _sync(path.parent)
        _remove(outdated)
    finally:
        _remove(aside)


def aside_of(path: Path, token: str = "") -> Path:
    """Where `path` is written before it is whole; a killed process may leave it behind."""
    return path.with_name(f".{path.name}{token and '.'}{token}{PARTIAL}")


def is_aside(name: str, of: str = "") -> bool:
    """Whether this is the name of a file that is not whole yet, of the one named `of` or of any."""
    return name.startswith(f".{of}") and name.endswith(PARTIAL)


@contextmanager
def _errors_of_the_system() -> Iterator[None]:
    """Libraries in Rust tell what the system refused in words only: here it becomes the OSError it was."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        if found := _RUST_OS_ERROR.search(str(error)):
            raise OSError(int(found[1]), os.strerror(int(found[1]))) from error
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    # Windows syncs only what is open for writing.
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
