"""One folder, three kinds of address: what is written is read back, and is whole or absent."""

import shutil
import socket

import fsspec
import numpy as np
import pytest

from bertkit.data.any_folder import AnyFolder
from bertkit.errors import CorpusError


@pytest.fixture(params=["path", "file://", "memory://"])
def folder(request, tmp_path):
    if request.param == "memory://":
        yield AnyFolder("memory://any-folder/deep")
        memory = fsspec.filesystem("memory")
        if memory.exists("/any-folder"):
            memory.rm("/any-folder", recursive=True)
    else:
        yield AnyFolder(f"{'' if request.param == 'path' else 'file://'}{tmp_path}/deep")


def test_what_is_written_is_read_back(folder, tmp_path):
    folder.write("a.bin", b"one")
    folder.write("a.bin", b"two")
    folder.below("inner").write_json("b.json", {"ä": 1})
    folder.write_arrays("c.npz", x=np.arange(3))
    (tmp_path / "local.txt").write_text("local")
    folder.put(tmp_path / "local.txt", "inner/d.txt")
    folder.fetch("inner/d.txt", tmp_path / "fetched.txt")
    assert folder.read("a.bin") == b"two"
    assert folder.read_json("inner/b.json") == {"ä": 1}
    assert folder.read_arrays("c.npz")["x"].tolist() == [0, 1, 2]
    assert (tmp_path / "fetched.txt").read_text() == "local"
    assert folder.names() == ["a.bin", "c.npz", "inner"]
    assert (folder.exists("inner/d.txt"), folder.exists("inner/e.txt")) == (True, False)


def test_what_is_deleted_is_gone_and_may_be_deleted_again(folder):
    folder.write("inner/a.bin", b"one")
    for _ in range(2):
        folder.delete("inner")
        assert not folder.exists("inner/a.bin")
    folder.delete()
    assert folder.names() == []


def test_only_a_folder_here_has_a_path(tmp_path):
    assert AnyFolder(str(tmp_path)).path == tmp_path
    assert AnyFolder(f"file://{tmp_path}").path == tmp_path
    assert AnyFolder("memory://x").path is None


def test_an_address_nobody_knows_is_one_sentence():
    with pytest.raises(CorpusError, match=r"'nowhere://x' cannot be opened: .*; give a local path"):
        AnyFolder("nowhere://x").names()


def test_two_tasks_that_write_the_same_file_leave_a_whole_one(tmp_path, monkeypatch):
    folder, copyfile = AnyFolder(str(tmp_path / "out")), shutil.copyfile
    (tmp_path / "other").write_text("of the other task")

    def slow(source, target):
        monkeypatch.setattr(shutil, "copyfile", copyfile)
        with target.open("w") as file:
            file.write("of this ")
            folder.put(tmp_path / "other", "shard")
            assert folder.read("shard") == b"of the other task"
            file.write("task")

    monkeypatch.setattr(shutil, "copyfile", slow)
    folder.put(tmp_path / "this", "shard")
    assert folder.read("shard") == b"of this task"
    assert folder.names() == ["shard"]


def test_what_is_out_of_reach_is_one_sentence_without_its_password(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ftp = AnyFolder(f"ftp://me:s3cr3t@127.0.0.1:{port}/out")
    with pytest.raises(CorpusError, match="cannot be reached .*check the address") as failed:
        ftp.names()
    assert "s3cr3t" not in str(failed.value)
    (tmp_path / "file").touch()
    blocked = AnyFolder(str(tmp_path / "file" / "inner"))
    for use in (blocked.make, blocked.names, lambda: blocked.write("a.bin", b"one")):
        with pytest.raises(CorpusError, match=r"file/inner.* cannot be reached .*Not a directory"):
            use()


def test_a_file_that_is_missing_is_one_sentence(folder, tmp_path):
    with pytest.raises(CorpusError, match="deep/a.bin is missing: all processes and machines must see the same files"):
        folder.read("a.bin")
    with pytest.raises(CorpusError, match="deep/a.bin is missing"):
        folder.fetch("a.bin", tmp_path / "fetched")


def test_sizes_are_told_and_a_folder_is_made(folder):
    folder.make()
    folder.make()
    folder.write("a.bin", b"four")
    assert folder.sizes() == {"a.bin": 4}
