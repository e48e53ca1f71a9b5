"""One writer a folder."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from bertkit.lock import LOCK_FILE, FolderInUseError, FolderLock

HOLD = """
import sys
from pathlib import Path
from bertkit.lock import FolderLock
with FolderLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_made_locked_and_let_go_without_a_trace(tmp_path):
    with FolderLock(tmp_path / "a/b"):
        assert (tmp_path / "a/b" / LOCK_FILE).is_file()
        with pytest.raises(FolderInUseError, match=f"pid {os.getpid()} on {socket.gethostname()}"):
            FolderLock(tmp_path / "a/b").take()
    assert not list((tmp_path / "a/b").iterdir())
    with FolderLock(tmp_path / "a/b"):
        pass


def test_one_that_is_held_can_be_taken_and_released_again(tmp_path):
    lock = FolderLock(tmp_path)
    lock.release()
    lock.take()
    lock.take()
    lock.release()
    lock.release()
    with FolderLock(tmp_path):
        pass


def test_whoever_is_refused_leaves_the_lock_as_it_was(tmp_path):
    with FolderLock(tmp_path):
        for _ in range(2):
            with pytest.raises(FolderInUseError):
                FolderLock(tmp_path).take()
        assert str(os.getpid()) in (tmp_path / LOCK_FILE).read_text()


def test_a_process_that_is_killed_holds_nothing(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FolderInUseError, match=f"pid {holder.pid} "):
            FolderLock(tmp_path).take()
        holder.kill()
    assert (tmp_path / LOCK_FILE).is_file()
    with FolderLock(tmp_path):
        pass


def test_where_nothing_can_be_locked_a_warning_says_so(tmp_path, monkeypatch, caplog):
    lock = FolderLock(tmp_path)

    def refuse():
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock._lock, "acquire", refuse)
    with lock:
        assert "cannot be locked" in caplog.text
