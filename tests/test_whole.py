"""What has a name is whole."""

import errno
import shutil

import pytest

from bertkit.whole import aside_of, is_aside, written_whole


def test_a_file_or_folder_has_its_name_only_once_it_is_whole(tmp_path):
    with written_whole(tmp_path / "file") as aside:
        aside.write_text("new")
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").read_text() == "new"
    for content in ("first", "second"):
        with written_whole(tmp_path / "folder") as aside:
            aside.mkdir()
            (aside / "inside").write_text(content)
        assert (tmp_path / "folder/inside").read_text() == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_an_error_leaves_what_was_there_and_nothing_beside_it(tmp_path):
    (tmp_path / "file").write_text("old")

    def fail_half_way():
        with written_whole(tmp_path / "file") as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_behind_is_no_hindrance(tmp_path):
    aside_of(tmp_path / "folder").mkdir()
    (aside_of(tmp_path / "folder") / "half").write_text("x")
    with written_whole(tmp_path / "folder") as aside:
        aside.mkdir()
    assert not list((tmp_path / "folder").iterdir())


def test_two_who_write_the_same_file_with_tokens_of_their_own_leave_a_whole_one(tmp_path):
    with written_whole(tmp_path / "file", token="a") as first:
        first.write_text("first, half")
        with written_whole(tmp_path / "file", token="b") as second:
            second.write_text("second")
            assert all(is_aside(name, "file") for name in (first.name, second.name))
        assert (tmp_path / "file").read_text() == "second"
        first.write_text("first")
    assert (tmp_path / "file").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_replaced_before_the_old_one_is_taken_apart(tmp_path, monkeypatch):
    path, removed = tmp_path / "folder", []

    def write(content):
        with written_whole(path) as aside:
            aside.mkdir()
            (aside / "file").write_text(content)

    write("old")
    monkeypatch.setattr(shutil, "rmtree", lambda gone, **_: removed.append((gone.name, (path / "file").read_text())))
    write("new")
    # A kill while the old one goes finds the new one in its place.
    assert removed == [(".folder.outdated", "new")]
    monkeypatch.undo()
    write("newest")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]


def test_what_a_library_in_rust_was_refused_is_an_os_error(tmp_path):
    def fail():
        with written_whole(tmp_path / "file"):
            raise Exception("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(OSError, match="No space left") as failed:
        fail()
    assert failed.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_killed_between_two_renames_the_older_folder_is_not_lost(tmp_path):
    outdated = tmp_path / ".export.outdated"
    outdated.mkdir()
    (outdated / "weights").write_text("whole")
    with pytest.raises(OSError, match="full"), written_whole(tmp_path / "export"):
        raise OSError(28, "the disk is full")
    assert (tmp_path / "export/weights").read_text() == "whole"
