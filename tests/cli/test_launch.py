"""How a command finds out about the processes it is one of."""

import os

import pytest
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.cli.launch import STARTED_HERE, adopt_slurm, first_host, start_processes
from bertkit.errors import ConfigError

OF_A_LAUNCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", STARTED_HERE)
TASK = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu-[07,09]",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in (*OF_A_LAUNCH, *(name for name in os.environ if name.startswith("SLURM_"))):
        # Set first, so that what a test leaves behind is taken away again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def adopted(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    adopt_slurm()
    return {name: os.environ[name] for name in OF_A_LAUNCH if name in os.environ}


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("gpu01", "gpu01"),
        ("gpu01,gpu02", "gpu01"),
        ("gpu-[07-09,12],login", "gpu-07"),
        ("gpu-[07,09]-ib", "gpu-07-ib"),
        ("a[1-2],b[3-4]", "a1"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_first_host_of_a_list_of_slurms(hosts, first):
    assert first_host(hosts) == first


def test_a_task_of_srun_knows_its_place(monkeypatch):
    found = adopted(monkeypatch, **TASK)
    port = int(found.pop("MASTER_PORT"))
    assert found == {
        "RANK": "5",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "8",
        "LOCAL_WORLD_SIZE": "4",
        "MASTER_ADDR": "gpu-07",
    }
    assert 20_000 <= port < 30_000


def test_two_steps_of_a_job_meet_at_two_ports(monkeypatch):
    first = adopted(monkeypatch, **TASK)["MASTER_PORT"]
    for name in OF_A_LAUNCH:
        monkeypatch.delenv(name, raising=False)
    assert adopted(monkeypatch, **TASK | {"SLURM_STEP_ID": "1"})["MASTER_PORT"] != first


def test_a_batch_script_without_srun_is_one_process(monkeypatch):
    alone = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert adopted(monkeypatch, **alone) == {}


def test_what_another_launcher_said_stands(monkeypatch):
    found = adopted(monkeypatch, **TASK, RANK="0", WORLD_SIZE="2")
    assert found == {"RANK": "0", "WORLD_SIZE": "2"}


def test_what_the_batch_script_said_of_the_meeting_place_stands(monkeypatch):
    found = adopted(monkeypatch, **TASK, MASTER_ADDR="10.0.0.1", MASTER_PORT="29500")
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("10.0.0.1", "29500")


def test_processes_are_not_started_by_processes(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="leave it out under torchrun"):
        start_processes(2)


def test_one_process_is_this_one():
    start_processes(None)
    start_processes(1)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 2)
    with pytest.raises(ConfigError, match="--nproc 3 asks for a GPU a process, and there are 2"):
        start_processes(3)


@pytest.mark.parametrize("command", [["export"], ["prepare", "corpus"], ["demo"], ["recipes", "ls"]])
def test_what_is_done_once_is_refused_in_several_processes(monkeypatch, command):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert f"bertkit {command[0]} runs in one process" in result.output
