"""What keeps bertkit running on Windows, on macOS and on Python 3.11 to 3.13, read from its source."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bertkit import whole
from bertkit.train import transfer
from bertkit.train.setup import resolve_precision
from bertkit.whole import written_whole

ROOT = Path(__file__).parents[1]
SOURCES = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "bertkit").rglob("*.py"))}
TREES = {path: ast.parse(text) for path, text in SOURCES.items()}

POSIX_MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "curses", "readline"}
POSIX_ONLY = {
    "os": {
        "fork", "forkpty", "wait", "waitpid", "killpg", "setsid", "getpgid", "getpgrp", "setpgid", "getuid", "geteuid",
        "getgid", "uname", "getloadavg", "sync", "chown", "mkfifo", "sysconf", "statvfs", "nice", "sched_getaffinity",
        "register_at_fork", "posix_fadvise", "fdatasync", "O_DIRECTORY",
    },
    "signal": {
        "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGSTOP", "SIGCONT",
        "pthread_sigmask", "pthread_kill", "alarm", "setitimer", "pause", "sigwait",
    },
}  # fmt: skip
GUARDS = ("hasattr(", "getattr(", "os.name", "sys.platform", "platform.system")


def calls(tree):
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def all_calls():
    return ((path, call) for path, tree in TREES.items() for call in calls(tree))


def name_of(call):
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def has(call, keyword):
    # **options may hold it.
    return any(each.arg in (keyword, None) for each in call.keywords)


def surroundings(path, node):
    """The source of the outermost function around a node; of the line alone where there is none."""
    text = SOURCES[path]
    for outer in ast.walk(TREES[path]):
        if isinstance(outer, ast.FunctionDef) and outer.lineno <= node.lineno <= outer.end_lineno:
            return ast.get_source_segment(text, outer)
    return text.splitlines()[node.lineno - 1]


def opens_text_of_unknown_encoding(call):
    name, is_method = name_of(call), isinstance(call.func, ast.Attribute)
    if name in ("read_text", "write_text"):
        return is_method and not has(call, "encoding")
    if name not in ("open", "fdopen", "TextIOWrapper", "NamedTemporaryFile"):
        return False
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if owner[:1].isupper() or (owner == "os" and name == "open"):
        return False  # a class that opens things of its own; a file descriptor
    words = [each.value for each in (*call.args, *(k.value for k in call.keywords)) if isinstance(each, ast.Constant)]
    modes = [word for word in words if isinstance(word, str) and word and set(word) <= set("rwxab+t")]
    if not modes and is_method and call.args and not isinstance(call.args[0], ast.Constant):
        return False  # an object's own open(thing)
    return not any("b" in mode for mode in modes) and not has(call, "encoding")


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("Path('a').read_text()", True),
        ("path.write_text('x')", True),
        ("path.open()", True),
        ("open(path)", True),
        ("path.open('w')", True),
        ("path.open('rb')", False),
        ("path.open('w', encoding='utf-8')", False),
        ("path.open('w', **text)", False),
        ("read_text(path)", False),
        ("TokenStore.open(path)", False),
        ("os.open(path, os.O_RDONLY)", False),
    ],
)
def test_the_search_for_text_without_an_encoding_finds_what_it_should(line, is_found):
    (call,) = (node for node in calls(ast.parse(line)) if name_of(node) != "Path")
    assert opens_text_of_unknown_encoding(call) == is_found


def test_every_text_file_is_opened_with_its_encoding():
    # Left out, it would be the code page of whoever runs it.
    assert not [f"{path}:{call.lineno}" for path, call in all_calls() if opens_text_of_unknown_encoding(call)]


def is_posix_only(node):
    if isinstance(node, ast.Import):
        return any(each.name.split(".")[0] in POSIX_MODULES for each in node.names)
    if isinstance(node, ast.ImportFrom):
        return not node.level and node.module.split(".")[0] in POSIX_MODULES
    owner = getattr(getattr(node, "value", None), "id", None)
    return isinstance(node, ast.Attribute) and node.attr in POSIX_ONLY.get(owner, ())


def test_what_only_posix_has_is_asked_for_first():
    places = [(path, node) for path, tree in TREES.items() for node in ast.walk(tree) if is_posix_only(node)]
    assert places  # or the search finds nothing any more
    for path, node in places:
        assert any(guard in surroundings(path, node) for guard in GUARDS), f"{path}:{node.lineno}"


def test_no_place_of_one_system_is_written_down_unless_it_may_be_missing():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                where = f"{path}:{node.lineno}"
                assert not node.value.startswith(("/tmp", "/var/", "/dev/", "/home/", "/root", "C:\\")), where
                if node.value.startswith(("/proc/", "/sys/")):
                    assert any(each in surroundings(path, node) for each in ("suppress(OSError", "is_file()")), where


def test_nothing_is_done_that_another_system_does_otherwise():
    for path, call in all_calls():
        where, owner = f"{path}:{call.lineno}", getattr(getattr(call.func, "value", None), "id", "")
        # Forked on Linux before Python 3.14, spawned elsewhere.
        assert name_of(call) != "ProcessPoolExecutor" or has(call, "mp_context"), where
        assert (owner, name_of(call)) not in {("multiprocessing", "Process"), ("multiprocessing", "Pool")}, where
        # Windows renames over nothing that exists; `replace` does.
        assert (owner, name_of(call)) != ("os", "rename"), where
        for keyword in call.keywords:
            # Silently wrong on Apple's GPUs: see bertkit.train.transfer.
            is_true = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            assert not (keyword.arg == "non_blocking" and is_true), where


def test_the_oldest_python_that_is_promised_can_read_all_of_it():
    for text in SOURCES.values():
        ast.parse(text, feature_version=(3, 11))


class Windows:
    """The module `os` as it is there, as far as syncing goes."""

    name = "nt"

    def __init__(self):
        self.opened = []

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, flags):
        self.opened.append((Path(path).is_dir(), flags))
        return os.open(path, flags)


def test_on_windows_files_are_synced_open_for_writing_and_folders_not_at_all(tmp_path, monkeypatch):
    windows = Windows()
    monkeypatch.setattr(whole, "os", windows)
    with written_whole(tmp_path / "folder") as aside:
        aside.mkdir()
        (aside / "a.txt").write_text("a", encoding="utf-8")
    assert windows.opened == [(False, os.O_RDWR)]
    assert (tmp_path / "folder/a.txt").read_text(encoding="utf-8") == "a"


@pytest.mark.parametrize(("device", "waits"), [("cuda", False), ("mps", True), ("cpu", True)])
def test_only_on_cuda_is_a_batch_not_waited_for(device, waits, monkeypatch):
    seen = {}
    monkeypatch.setattr(transfer, "send_to_device", lambda batch, place, **options: seen.update(options) or batch)
    assert transfer.to_device({"a": 1}, torch.device(device)) == {"a": 1}
    assert seen == {"non_blocking": not waits}


def test_apples_gpus_compute_in_float32_unless_they_are_told_otherwise():
    assert resolve_precision("auto", device=torch.device("mps")) == "fp32"


@pytest.mark.parametrize(
    ("environment", "written"),
    [
        ({"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "日本".encode()),
        ({"PYTHONIOENCODING": "cp1252"}, b"\\u65e5\\u672c"),
        ({"PYTHONIOENCODING": "utf-8"}, "日本".encode()),
    ],
)
def test_no_letter_ends_a_command_whose_output_goes_to_a_pipe(environment, written):
    script = "from bertkit.cli.console import speak_unicode; speak_unicode(); print('\\u65e5\\u672c')"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHONIO"))}
    said = subprocess.run(
        [sys.executable, "-c", script], env={**kept, "PYTHONPATH": str(ROOT), **environment}, capture_output=True
    )
    assert said.stdout.strip() == written, said.stderr
