"""One folder, two processes: the second one that would write is refused by name, those that read go on."""

import shutil
import signal
import socket

import pytest
from fault_runs import (
    finetune_command,
    hashes,
    kill,
    prepare_command,
    pretrain_command,
    require_done,
    require_one_line,
    run,
    start,
    wait_for,
)

from bertkit.train.checkpoint import list_checkpoints

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

ENDLESS = 1_000_000


@pytest.fixture
def frozen():
    """Starts processes and freezes each as soon as a condition holds; all are killed behind the test."""
    processes = []

    def freeze(arguments, condition, log):
        process = start(arguments, log=log)
        processes.append(process)
        assert wait_for(condition, process), log.read_text()
        process.send_signal(signal.SIGSTOP)
        return process

    yield freeze
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("command", [prepare_command, pretrain_command, finetune_command])
def test_a_second_process_is_refused_until_the_first_one_is_gone(command, inputs, tmp_path, frozen):
    folder = tmp_path / "run"
    lock = folder / ".lock"
    first = frozen(command(inputs, folder), lambda: lock.exists() and lock.read_text(), tmp_path / "log")
    before = hashes(folder)
    line = require_one_line(run(command(inputs, folder)))
    assert str(folder) in line
    assert f"pid {first.pid} on {socket.gethostname()}" in line
    assert hashes(folder) == before
    assert kill(first)
    require_done(run(command(inputs, folder)))
    assert not lock.exists()


def test_a_running_pre_training_can_be_evaluated_and_exported(inputs, tmp_path):
    # Every step is saved and the one before removed: what is being read goes away all the time.
    keep = "--set=every.keep_checkpoints=1"
    process = start(pretrain_command(inputs, tmp_path / "run", keep, steps=ENDLESS), log=tmp_path / "log")
    try:
        assert wait_for(lambda: list_checkpoints(tmp_path / "run/checkpoints"), process)
        for _ in range(2):
            require_done(run(["evaluate", str(tmp_path / "run")]))
            require_done(run(["export", str(tmp_path / "run"), f"--output-dir={tmp_path / 'export'}"]))
            shutil.rmtree(tmp_path / "export")
        assert process.poll() is None
    finally:
        assert kill(process)


def test_a_store_is_trained_on_by_several_runs_at_once(inputs, tmp_path, frozen):
    require_done(run(prepare_command(inputs, tmp_path / "store")))
    first = pretrain_command(inputs, tmp_path / "one", steps=ENDLESS)
    first[1] = str(tmp_path / "store")
    frozen(first, lambda: list_checkpoints(tmp_path / "one/checkpoints"), tmp_path / "log")
    second = pretrain_command(inputs, tmp_path / "two", steps=3)
    second[1] = str(tmp_path / "store")
    require_done(run(second))
