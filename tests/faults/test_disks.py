"""Disks that are full, small or read-only: one line, nothing half-written, and with room the same command goes on."""

import contextlib
import resource
import signal
import subprocess

import pytest
from fault_runs import (
    figures,
    finetune_command,
    hashes,
    partial_files,
    prepare_command,
    pretrain_command,
    require_done,
    require_one_line,
    run,
    start,
    wait_for,
)

from bertkit.train.checkpoint import latest_checkpoint

# One process of the suite does all of it: what its cases share is made once.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(300), pytest.mark.xdist_group("disks")]

LARGE = 64 << 20
COMMANDS = {"prepare": prepare_command, "pretrain": pretrain_command, "finetune": finetune_command}
# Shares of what a whole run takes on disk: each ends the run somewhere else.
SHARES = [
    *(("prepare", share) for share in (0.05, 0.5, 0.9)),
    *(("pretrain", share) for share in (0.01, 0.2, 0.45, 0.7, 0.9)),
    *(("finetune", share) for share in (0.01, 0.2, 0.5, 0.9)),
]


@pytest.fixture
def disk(tmp_path):
    """A disk in memory, of a size that can be changed: `disk.remount("size=...")`."""
    place = tmp_path / "disk"
    place.mkdir()

    def remount(options, *, again=True):
        flags = f"remount,{options}" if again else options
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", flags, "tmpfs", str(place)], capture_output=True, text=True
        )

    with contextlib.suppress(FileNotFoundError):
        done = remount(f"size={LARGE}", again=False)
        if done.returncode == 0:
            yield place, remount
            subprocess.run(["umount", "--lazy", str(place)], check=True)
            return
    pytest.skip("mounting a small disk is not permitted here")


@pytest.fixture(scope="module")
def peace(inputs, tmp_path_factory):
    """A whole run of each command and the bytes it takes on disk."""
    folder = tmp_path_factory.mktemp("peace")
    outcomes = {}
    for name, command in COMMANDS.items():
        require_done(run(command(inputs, folder / name)))
        outcomes[name] = (outcome(name, folder / name), bytes_on_disk(folder / name))
    return outcomes


def outcome(name, folder):
    return hashes(folder) if name == "prepare" else (hashes(folder), figures(folder))


def bytes_on_disk(folder):
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*"))


@pytest.mark.parametrize(("name", "share"), SHARES)
def test_a_full_disk_is_one_line_and_with_room_the_same_command_ends_whole(name, share, inputs, peace, disk):
    (place, remount), (expected, size) = disk, peace[name]
    assert remount(f"size={max(4096, int(share * size)) // 4096 * 4096}").returncode == 0
    line = require_one_line(run(COMMANDS[name](inputs, place / "run")))
    assert "full" in line or "No space left" in line, line
    assert not partial_files(place)
    remount(f"size={LARGE}")
    require_done(run(COMMANDS[name](inputs, place / "run")))
    assert outcome(name, place / "run") == expected


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_limit_on_the_size_of_a_file_is_one_line(name, inputs, peace, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    require_one_line(run(COMMANDS[name](inputs, tmp_path / "run"), preexec_fn=limit))
    assert not partial_files(tmp_path)
    require_done(run(COMMANDS[name](inputs, tmp_path / "run")))
    assert outcome(name, tmp_path / "run") == peace[name][0]


def test_a_disk_that_fills_up_while_figures_are_logged_is_one_line(inputs, disk, tmp_path):
    place, _ = disk
    command = pretrain_command(inputs, place / "run", "--set=every.save_steps=null", steps=2000)
    process = start(command, log=tmp_path / "log")
    assert wait_for(lambda: "step 20 (" in (tmp_path / "log").read_text(), process)
    process.send_signal(signal.SIGSTOP)
    with (place / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    process.send_signal(signal.SIGCONT)
    assert process.wait(100) == 2
    spoken = (tmp_path / "log").read_text()
    assert "Traceback" not in spoken
    assert "metrics.jsonl cannot be written: No space left on device" in spoken.splitlines()[-1]
    (place / "filler").unlink()
    process = start(command, log=tmp_path / "log")
    assert wait_for(lambda: "step 40 (" in (tmp_path / "log").read_text(), process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(100) == 143
    assert latest_checkpoint(place / "run/checkpoints").step >= 40


def test_a_read_only_folder_is_one_line_and_can_still_be_exported_from(inputs, disk, tmp_path):
    place, remount = disk
    require_done(run(pretrain_command(inputs, place / "run", steps=3)))
    require_done(run(finetune_command(inputs, place / "tuned", steps=3)))
    assert remount("ro").returncode == 0
    for command in COMMANDS.values():
        assert "Read-only" in require_one_line(run(command(inputs, place / "new")))
    assert "Read-only" in require_one_line(run(pretrain_command(inputs, place / "run", steps=3)))
    assert "Read-only" in require_one_line(run(["evaluate", str(place / "run")]))
    require_done(run(["export", str(place / "run"), f"--output-dir={tmp_path / 'export'}"]))
    assert hashes(tmp_path / "export") == hashes(place / "run/export")
    assert "is finished already" in require_done(run(finetune_command(inputs, place / "tuned", steps=3))).stderr
