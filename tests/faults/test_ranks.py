"""Several processes: one dies, all are told to stop, and what they leave behind is what one process would."""

import contextlib
import os
import random
import signal
import time

import psutil
import pytest
from fault_runs import (
    ENVIRONMENT,
    SECONDS,
    hashes,
    prepare_command,
    pretrain_command,
    require_done,
    require_one_line,
    run,
    start,
    wait_for,
)

from bertkit.train.checkpoint import latest_checkpoint, list_checkpoints

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

STEPS = 200
MINUTE_S = 60


@pytest.fixture(scope="module")
def undisturbed(inputs, tmp_path_factory):
    """What two processes come to when nothing happens to them."""
    run_dir = tmp_path_factory.mktemp("ranks") / "run"
    require_done(run([*command(inputs, run_dir), "--nproc=2"]))
    return hashes(run_dir / "export")


def command(inputs, run_dir):
    return pretrain_command(inputs, run_dir, "--set=every.save_steps=20", steps=STEPS)


def workers_of(launcher):
    """The processes it started, by their rank."""
    found = {}
    for child in psutil.Process(launcher.pid).children():
        if rank := child.environ().get("RANK"):
            found[int(rank)] = child
    return found


def is_training(run_dir):
    return lambda: len(list_checkpoints(run_dir / "checkpoints")) > 0


def environment_of(rank, number, job):
    """What srun sets for one of its tasks."""
    return {
        "SLURM_JOB_ID": str(job),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(number),
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_STEP_TASKS_PER_NODE": f"{number}(x1)",
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
    }


@contextlib.contextmanager
def tasks_of_srun(inputs, run_dir, tmp_path, number=2):
    """Processes as srun would start them, and the files they talk to; none outlives the block."""
    job = random.SystemRandom().randrange(100_000)
    logs = [tmp_path / f"task-{rank}.log" for rank in range(number)]
    tasks = [
        start(command(inputs, run_dir), log=logs[rank], **environment_of(rank, number, job)) for rank in range(number)
    ]
    try:
        yield logs, tasks
    finally:
        for task in tasks:
            task.kill()
            task.wait(SECONDS)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_launch_with_its_name_and_the_same_command_goes_on(
    inputs, tmp_path, undisturbed, rank
):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    launcher = start([*command(inputs, run_dir), "--nproc=2"], log=log)
    assert wait_for(is_training(run_dir), launcher)
    workers_of(launcher)[rank].kill()
    killed_s = time.monotonic()
    assert launcher.wait(SECONDS) == 75
    assert time.monotonic() - killed_s < MINUTE_S
    said = log.read_text()
    assert f"error: process {rank} of 2 was ended by SIGKILL" in said
    assert "Traceback" not in said, said
    require_done(run([*command(inputs, run_dir), "--nproc=2"]))
    assert hashes(run_dir / "export") == undisturbed


@pytest.mark.parametrize("rank", [0, 1])
def test_under_srun_alone_the_one_that_is_left_stops_within_a_minute_and_names_the_other(inputs, tmp_path, rank):
    run_dir = tmp_path / "run"
    with tasks_of_srun(inputs, run_dir, tmp_path) as (logs, tasks):
        assert wait_for(is_training(run_dir), tasks[0])
        tasks[rank].kill()
        killed_s = time.monotonic()
        assert tasks[1 - rank].wait(SECONDS) == 75
        assert time.monotonic() - killed_s < MINUTE_S
    said = logs[1 - rank].read_text()
    assert f"process {rank} of 2" in said
    assert "is gone" in said
    assert "Traceback" not in said, said


def test_a_process_that_hangs_is_found_out_too(inputs, tmp_path):
    run_dir = tmp_path / "run"
    with tasks_of_srun(inputs, run_dir, tmp_path) as (logs, tasks):
        assert wait_for(is_training(run_dir), tasks[0])
        tasks[1].send_signal(signal.SIGSTOP)
        stopped_s = time.monotonic()
        assert tasks[0].wait(SECONDS) == 75
        assert time.monotonic() - stopped_s < MINUTE_S
    assert "process 1 of 2" in logs[0].read_text()


def test_srun_needs_no_other_launcher(inputs, tmp_path, undisturbed):
    with tasks_of_srun(inputs, tmp_path / "run", tmp_path) as (logs, tasks):
        assert [task.wait(SECONDS) for task in tasks] == [0, 0], [log.read_text() for log in logs]
    assert hashes(tmp_path / "run/export") == undisturbed
    assert logs[1].read_text() == ""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_to_the_launcher_saves_in_every_process_and_the_same_command_goes_on(
    inputs, tmp_path, undisturbed, name
):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    launcher = start([*command(inputs, run_dir), "--nproc=2"], log=log)
    assert wait_for(is_training(run_dir), launcher)
    launcher.send_signal(signal.Signals[name])
    assert launcher.wait(SECONDS) == 128 + signal.Signals[name]
    said = log.read_text()
    assert said.count(f"stopped by {name} at step") == 1, said
    assert "Traceback" not in said, said
    step = latest_checkpoint(run_dir / "checkpoints").step
    assert f"at step {step:,};" in said
    require_done(run([*command(inputs, run_dir), "--nproc=2"]))
    assert hashes(run_dir / "export") == undisturbed


@pytest.mark.skipif(not hasattr(os, "setsid"), reason="a terminal's group of processes is POSIX's")
def test_one_ctrl_c_at_a_terminal_reaches_the_launcher_and_its_processes_and_counts_once(inputs, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    launcher = start([*command(inputs, run_dir), "--nproc=2"], log=log)
    assert wait_for(is_training(run_dir), launcher)
    for each in [launcher, *workers_of(launcher).values()]:
        each.send_signal(signal.SIGINT)
    assert launcher.wait(SECONDS) == 130
    assert log.read_text().count("stopped by SIGINT at step") == 1


def test_what_is_wrong_is_said_once_and_not_by_every_process(inputs, tmp_path):
    wrong = [*command(inputs, tmp_path / "run"), "--nproc=2", "--set=train.global_batch_size=7"]
    line = require_one_line(run(wrong))
    assert "is not a multiple of the 2 processes" in line


def test_two_launchers_are_one_too_many(inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(ENVIRONMENT, "RANK", "0")
    line = require_one_line(run([*command(inputs, tmp_path / "run"), "--nproc=2"]))
    assert "leave it out under torchrun" in line


def test_machines_that_do_not_share_the_run_folder_are_told_so(inputs, tmp_path):
    store = tmp_path / "store"
    require_done(run(prepare_command(inputs, store)))

    def train(attempt):
        """One process a machine, each with a disk of its own; how they ended, and what the first one said."""
        job, log = random.SystemRandom().randrange(100_000), tmp_path / f"{attempt}.log"
        tasks = []
        for rank in range(2):
            words = pretrain_command(inputs, tmp_path / f"machine-{rank}", steps=40)
            words[1] = str(store)
            said = log if rank == 0 else tmp_path / f"{attempt}-1.log"
            tasks.append(start(words, log=said, **environment_of(rank, 2, job)))
        return [task.wait(SECONDS) for task in tasks], log.read_text()

    # Scoring reads the run from disk, where the second machine has none.
    ends, _ = train("first")
    assert 0 not in ends
    assert latest_checkpoint(tmp_path / "machine-0/checkpoints").step == 40
    assert not (tmp_path / "machine-1/checkpoints").exists()
    ends, said = train("second")
    assert ends == [2, 2]
    assert "put the run in a folder that all machines share" in said
