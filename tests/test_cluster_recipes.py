"""What a cluster starts bertkit with: accelerate's files by its own loader, the SLURM script by stubs of SLURM."""

import os
import shutil
import subprocess

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env

from bertkit.config.load import list_finetuning_recipes, list_recipes, recipes_dir
from bertkit.train.sharding import wants_sharding

SLURM_SCRIPT = recipes_dir() / "slurm/pretrain.sbatch"
ACCELERATE = sorted((recipes_dir() / "accelerate").glob("*.yaml"))


def test_recipes_of_machines_are_no_recipes_of_training():
    assert [path.stem for path in ACCELERATE] == ["ddp", "fsdp2"]
    assert not set(ACCELERATE) & {*list_recipes(), *list_finetuning_recipes()}


@pytest.mark.parametrize("path", ACCELERATE, ids=lambda path: path.stem)
def test_accelerate_reads_its_configuration_and_asks_for_the_number_of_processes(path):
    config = load_config_from_file(str(path))
    assert config.distributed_type.value == {"ddp": "MULTI_GPU", "fsdp2": "FSDP"}[path.stem]
    assert config.mixed_precision == "no"
    assert config.num_processes == -1


@pytest.mark.parametrize(("name", "shards"), [("ddp", False), ("fsdp2", True)])
def test_what_accelerate_launch_says_is_what_bertkit_hears(name, shards, monkeypatch):
    path = recipes_dir() / f"accelerate/{name}.yaml"
    given = launch_command_parser().parse_args([f"--config_file={path}", "--num_processes=2", "-m", "bertkit"])
    args, _, _ = _validate_launch_command(given)
    said = prepare_multi_gpu_env(args)
    for variable in [key for key in os.environ if key.startswith(("ACCELERATE_", "FSDP_"))]:
        monkeypatch.delenv(variable)
    for key in [key for key in said if key.startswith(("ACCELERATE_", "FSDP_"))]:
        monkeypatch.setenv(key, said[key])
    assert wants_sharding() == shards


@pytest.fixture
def slurm(tmp_path):
    """A cluster of two stubs: scontrol notes what it is asked, srun what it runs, and ends as it is told."""
    commands = tmp_path / "bin"
    commands.mkdir()
    stubs = {
        "scontrol": 'echo "$*" >> scontrol.log\n[ "$1" = show ] && printf "node-a\\nnode-b\\n" || true',
        "srun": 'echo "$* $MASTER_ADDR $MASTER_PORT" > srun.log\n'
        '[ -z "$SAVES" ] || mkdir -p "runs/slurm-7/checkpoints/$SAVES"\nexit "$STATUS"',
    }
    for name, body in stubs.items():
        (commands / name).write_text(f"#!/usr/bin/env bash\n{body}\n", encoding="utf-8")
        (commands / name).chmod(0o755)

    def run(status, *, saves="", arguments=()):
        environment = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "node-[a-b]",
            "STATUS": str(status),
            "SAVES": saves,
        }
        done = subprocess.run(
            ["bash", str(SLURM_SCRIPT), *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
        return "requeue 7" in (tmp_path / "scontrol.log").read_text(encoding="utf-8").splitlines()

    return run


def test_all_machines_meet_at_the_first_and_get_the_words_of_the_command(slurm, tmp_path):
    slurm(0, arguments=("a corpus", "--recipe", "base"))
    started = (tmp_path / "srun.log").read_text(encoding="utf-8").strip()
    assert started.endswith("bertkit pretrain --output-dir=runs/slurm-7 a corpus --recipe base node-a 20007")


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_run_that_came_to_an_end_does_not_go_back_to_the_queue(slurm, status):
    assert not slurm(status, saves="step-0000010")


def test_time_that_is_up_sends_it_back_to_the_queue_even_before_the_first_checkpoint(slurm):
    assert slurm(138)


@pytest.mark.parametrize("status", [75, 143])
def test_what_was_stopped_or_lost_goes_back_only_if_it_got_further(slurm, status, tmp_path):
    assert not slurm(status)
    assert slurm(status, saves="step-0000010")
    (tmp_path / "scontrol.log").unlink()
    assert not slurm(status, saves="step-0000010")
    assert slurm(status, saves="step-0000020")


def test_the_script_is_what_bash_and_its_linter_take():
    subprocess.run(["bash", "-n", str(SLURM_SCRIPT)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SLURM_SCRIPT)], check=True)


def test_slurm_signals_in_time_and_may_start_it_again():
    options = [line for line in SLURM_SCRIPT.read_text(encoding="utf-8").splitlines() if line.startswith("#SBATCH")]
    assert {"#SBATCH --signal=USR1@120", "#SBATCH --requeue"} <= set(options)
