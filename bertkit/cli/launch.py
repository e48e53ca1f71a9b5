"""One command in several processes: started here by torch's own launcher, or found out about srun's."""

import os
import re
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from bertkit.cli.console import say_error
from bertkit.errors import ConfigError

NumProcesses = Annotated[
    int | None,
    typer.Option(
        "--nproc", min=1, help="Processes to train in on this machine, one a GPU; several machines: torchrun."
    ),
]
# Tells a process that another bertkit started it.
STARTED_HERE: Final = "BERTKIT_STARTED_HERE"
SIGNALS: Final = "SIGTERM,SIGINT,SIGHUP,SIGUSR1"
# For what a signal asks of every process: the end of a step, an evaluation, a checkpoint.
GRACE_S: Final = 300
BUG_EXIT: Final = 1


def start_processes(number: int | None) -> None:
    """Runs this very command in `number` processes and exits with their code; returns where it is to run right here.

    Raises:
        ConfigError: another launcher started this process already, or there are not so many GPUs.
    """
    if number is None or os.environ.get(STARTED_HERE):
        return
    if "RANK" in os.environ:
        raise ConfigError(
            "--nproc starts the processes itself: leave it out under torchrun, accelerate launch and srun"
        )
    _set_devices(number)
    if number > 1:
        os.environ[STARTED_HERE] = "1"
        # Started as `bertkit`, the current folder is no place to import from; `python -m bertkit` says it is one.
        safely = [] if Path(sys.argv[0]).name == "__main__.py" else ["-P"]
        raise typer.Exit(_run_in(number, [sys.executable, *safely, "-m", "bertkit", *sys.argv[1:]]))


def adopt_slurm() -> None:
    """Sets torch's variables where srun started several processes, unless a launcher has done so."""
    values = os.environ
    # Of the step, not of the job: a batch script that runs bertkit without srun is one process.
    if "RANK" in values or int(values.get("SLURM_STEP_NUM_TASKS", "1")) < 2:
        return
    values["RANK"], values["LOCAL_RANK"] = values["SLURM_PROCID"], values["SLURM_LOCALID"]
    values["WORLD_SIZE"] = values["SLURM_STEP_NUM_TASKS"]
    values.setdefault("LOCAL_WORLD_SIZE", re.split(r"\D", values.get("SLURM_STEP_TASKS_PER_NODE", "1"))[0])
    values.setdefault("MASTER_ADDR", first_host(values.get("SLURM_STEP_NODELIST", "127.0.0.1")))
    # Two steps on one machine must not meet at one port.
    step = int(values.get("SLURM_JOB_ID", "0")) * 7 + int(values.get("SLURM_STEP_ID", "0"))
    values.setdefault("MASTER_PORT", str(20_000 + step % 10_000))


def first_host(hosts: str) -> str:
    """The first of SLURM's list of hosts: `gpu-[07-09,12],login` begins with gpu-07."""
    match = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\]([^,\[]*))?", hosts)
    return "".join(part or "" for part in match.groups()) if match else hosts


def _set_devices(number: int) -> None:
    """One process a GPU; without any, as many threads each as there are cores for."""
    import torch

    if torch.accelerator.is_available():
        if number > torch.accelerator.device_count():
            raise ConfigError(
                f"--nproc {number} asks for a GPU a process, and there are {torch.accelerator.device_count()}: lower it"
            )
    elif number > 1:
        os.environ["ACCELERATE_USE_CPU"] = "1"
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // number)))


def _run_in(number: int, command: list[str]) -> int:
    """The exit code of `command` in so many processes: the first one's to fail."""
    import logging

    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What went wrong, a process has said, or is said below; each of torch's loggers has a level of its own.
    for name in [each for each in logging.root.manager.loggerDict if each.startswith("torch.distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="bertkit-launch-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=number,
            run_id=str(uuid.uuid4()),
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
            signals_to_handle=SIGNALS,
            shutdown_timeout=GRACE_S,
        )
        try:
            elastic_launch(config, command[0])(*command[1:])
        except SignalException as error:
            return 128 + error.sigval
        except ChildFailedError as error:
            return _tell(error, number)
    return 0


def _tell(error: Any, number: int) -> int:
    """Says how the first process failed where it could not say so itself."""
    from bertkit.train.processes import ProcessGoneError

    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        say_error(
            f"process {rank} of {number} was ended by {failure.signal_name()}, so the others were stopped: the same "
            "command goes on from the last checkpoint"
        )
        return ProcessGoneError.exit_code
    if failure.exitcode == BUG_EXIT:
        say_error(f"process {rank} of {number} failed, so the others were stopped: what it said stands above")
    return int(failure.exitcode)
