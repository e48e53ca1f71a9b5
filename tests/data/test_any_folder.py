"""One folder, three kinds of address: what is written is read back, and is whole or absent."""

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
