"""What counts as installed."""

from bertkit.installed import is_installed


def test_a_package_is_installed_and_one_that_is_not_is_not():
    assert is_installed("torch")
    assert not is_installed("no_such_package_anywhere")


def test_a_folder_that_a_package_leaves_is_not_that_package(tmp_path, monkeypatch):
    (tmp_path / "left_behind" / "logs").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert not is_installed("left_behind")
