"""datatrove's executors: one stage of the work, its tasks run here, on Ray or on SLURM, finished ones never again."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger as datatrove_logger

from bertkit.config.data import ClusterConfig
from bertkit.data.any_folder import AnyFolder
from bertkit.data.pool import ordered_map
from bertkit.errors import DISK_FULL, BertkitError, ConfigError, CorpusError
from bertkit.workflows.prepare_cluster import ExecutorName

logger = logging.getLogger(__name__)


SECONDS_BETWEEN_LOOKS: Final = 2.0
LOOKS_AFTER_THE_END: Final = 15
ERROR_FOLDER: Final = "errors"
REASON_CHARS: Final = 300
DATATROVE: Final = "datatrove"


@dataclass(frozen=True)
class Stage:
    """A pipeline and how much each of its tasks is of it; `said` is what a user reads."""

    name: str
    said: str
    pipeline: Sequence[PipelineStep]
    weights: Sequence[int]


@dataclass(frozen=True)
class Machines:
    """Where tasks run: the executor's name, how many at a time (-1: all), and the recipe's settings for it."""

    executor: ExecutorName
    workers: int
    cluster: ClusterConfig


def run_stage(
    stage: Stage, machines: Machines, *, logs: AnyFolder, on_progress: Callable[[str, int, int | None], None]
) -> None:
    """Run the tasks of a stage that are not finished.

    On this machine the folder of their logs is for its owner only: SLURM's jobs read there what they are to do, and
    the URLs of that may hold a signature. Raises BertkitError when a task failed: its message, and where its log is.
    """
    if machines.executor == "slurm" and "SLURM_ARRAY_TASK_ID" in os.environ:
        raise ConfigError("--executor slurm sends job arrays itself: start it outside of one")
    folder = logs.below(stage.name)
    if logs.path is not None:
        logs.path.mkdir(parents=True, exist_ok=True)
        logs.path.chmod(0o700)
    # What an earlier attempt failed of is not what this one fails of.
    folder.delete(ERROR_FOLDER)
    with _silenced():
        executor = _build(stage, machines, logs=folder.url)
        with _watched(executor, stage, on_progress):
            _run(executor)
        if missing := _unfinished(executor):
            raise CorpusError(_what_failed(executor, folder, missing))


@contextmanager
def ray_started(machines: Machines) -> Iterator[None]:
    """Connect to the Ray cluster, or start Ray on this machine, unless the caller has done so; nothing for others."""
    if machines.executor != "ray":
        yield
        return
    import ray

    if ray.is_initialized():
        yield
        return
    address = machines.cluster.ray_address or os.environ.get("RAY_ADDRESS")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        else:
            cores = machines.workers if machines.workers > 0 else None
            ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ConfigError(f"Ray cannot be reached at {address}: {error}; check data.cluster.ray_address") from error
    if threading.current_thread() is threading.main_thread():
        # Ray would have SIGTERM end this process by an exit code of its own.
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


class _Quiet:
    """Tasks log to the logging folder, not to the screen, and leave what went wrong where the driver looks."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        executor: Any = super()
        datatrove_logger.enable(DATATROVE)
        try:
            with redirect_stderr(_Nowhere()):
                return executor._run_for_rank(rank, local_rank, node_rank)
        except Exception as error:
            said = error if isinstance(error, BertkitError) else CorpusError(self._sentence(error, rank))
            with self.logging_dir.open(f"{ERROR_FOLDER}/{rank:05d}", "w", encoding="utf-8") as file:  # type: ignore[attr-defined]
                file.write(str(said))
            if said is error or getattr(error, "errno", None) in DISK_FULL:
                raise
            raise said from error

    def _sentence(self, error: Exception, rank: int) -> str:
        """What a step of another author raised; the log has the traceback."""
        frames = (frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__))
        steps = [type(place).__name__ for place in frames if isinstance(place, PipelineStep)]
        reason = " ".join(str(error).split())[:REASON_CHARS]
        log = self.logging_dir.resolve_paths(f"logs/task_{rank:05d}.log")  # type: ignore[attr-defined]
        return f"{steps[-1] if steps else 'a task'} failed ({type(error).__name__}: {reason}): see {log}"

    def save_executor_as_json(self, indent: int = 4) -> None:
        """Nothing: what tasks are given names every file of the corpus, and perhaps a secret in its URL."""


class _Local(_Quiet, LocalPipelineExecutor):
    def run(self) -> None:
        """Run the tasks in processes of bertkit's own: datatrove's would wait for ever for one that was killed."""
        for _ in ordered_map(partial(_run_task, self), self.get_incomplete_ranks(), num_workers=self.workers):
            pass


class _Ray(_Quiet, RayPipelineExecutor):
    pass


class _Slurm(_Quiet, SlurmPipelineExecutor):
    def run(self) -> None:
        """Inside a job: its tasks. Outside: send the jobs and wait for them; what ends the waiting cancels them."""
        if "SLURM_ARRAY_TASK_ID" in os.environ:
            super().run()
            return
        try:
            super().run()
            self._wait()
        except BaseException:
            if self.job_id_retriever.ids:
                with suppress(OSError):
                    subprocess.run(["scancel", *self.job_id_retriever.ids], check=False)
            raise

    def launch_merge_stats(self) -> None:
        """Nothing: a job that nobody waits for would write into a folder that is deleted by then."""

    def _wait(self) -> None:
        while _unfinished(self) and self._is_queued():
            time.sleep(SECONDS_BETWEEN_LOOKS)
        # What the last tasks wrote may take a while to appear on a file system of the network.
        for _ in range(LOOKS_AFTER_THE_END):
            if _unfinished(self):
                time.sleep(SECONDS_BETWEEN_LOOKS)

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """The directives of the job script, but for a partition that is not given."""
        arguments: dict[str, Any] = super().get_sbatch_args(max_array)
        return {name: value for name, value in arguments.items() if name != "partition" or value}

    def _is_queued(self) -> bool:
        command = ["squeue", "--noheader", "--jobs", str(self.job_id)]
        looked = subprocess.run(command, capture_output=True, text=True, check=False)
        if looked.returncode == 0:
            return bool(looked.stdout.strip())
        # An id that SLURM has forgotten is an error to squeue, and a job that is over to us.
        if "Invalid job id" in looked.stderr:
            return False
        reason = " ".join(looked.stderr.split()) or f"exit code {looked.returncode}"
        logger.warning("%s", f"squeue cannot say how far the job is ({reason}): asking again", extra={"once": True})
        return True


@dataclass
class _JobIds:
    """Reads the id of a job from what sbatch says, and remembers it: one stage may need several arrays."""

    ids: list[str] = field(default_factory=list)

    def __call__(self, output: str) -> str:
        self.ids.append(output.split()[-1])
        return self.ids[-1]


class _Nowhere:
    """A screen nobody sees; unlike a null device it stays open for the loggers that hold on to it."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


@contextmanager
def _silenced() -> Iterator[None]:
    """datatrove's own messages go nowhere outside of a task; a host program's loguru handlers stay as they are."""
    datatrove_logger.disable(DATATROVE)
    try:
        yield
    finally:
        datatrove_logger.enable(DATATROVE)


def _run_task(executor: PipelineExecutor, rank: int) -> None:
    # Steps count while they run: each task has its own.
    deepcopy(executor)._run_for_rank(rank)


def _build(stage: Stage, machines: Machines, *, logs: str) -> PipelineExecutor:
    cluster = machines.cluster
    common: dict[str, Any] = {"pipeline": list(stage.pipeline), "tasks": len(stage.weights), "logging_dir": logs}
    if machines.executor == "local":
        return _Local(**common, workers=min(machines.workers, len(stage.weights)))
    if machines.executor == "ray":
        return _Ray(**common, workers=machines.workers, mem_per_cpu_gb=cluster.task_memory_gb)
    slurm = cluster.slurm
    python = Path(sys.executable).parent
    return _Slurm(
        **common,
        workers=machines.workers,
        time=slurm.time,
        partition=slurm.partition,
        qos=slurm.qos,
        max_array_size=slurm.max_array_size,
        job_id_retriever=_JobIds(),
        job_name=f"bertkit-{stage.name}",
        env_command=slurm.env_command or f"export PATH={python}:$PATH",
        # SLURM takes whole numbers only.
        sbatch_args={"mem-per-cpu": f"{round(1024 * cluster.task_memory_gb)}M"} | slurm.sbatch_args,
    )


def _run(executor: PipelineExecutor) -> None:
    try:
        executor.run()
    except FileNotFoundError as error:
        if error.filename not in ("sbatch", "squeue"):
            raise
        raise ConfigError(
            f"there is no {error.filename} here: run it where SLURM is installed, or with --executor local"
        ) from error
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"sbatch refused the job (exit code {error.returncode}): check data.cluster.slurm") from error


@contextmanager
def _watched(
    executor: PipelineExecutor, stage: Stage, on_progress: Callable[[str, int, int | None], None]
) -> Iterator[None]:
    """Tell how far the tasks are, as their completion markers appear."""
    over = threading.Event()

    def tell() -> None:
        left = _unfinished(executor)
        on_progress(stage.said, sum(stage.weights) - sum(stage.weights[task] for task in left), sum(stage.weights))

    def watch() -> None:
        while not over.wait(SECONDS_BETWEEN_LOOKS):
            tell()

    tell()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    tell()


def _unfinished(executor: PipelineExecutor) -> list[int]:
    """Numbers of the tasks without a completion marker."""
    executor.logging_dir.invalidate_cache()
    tasks: list[int] = executor.get_incomplete_ranks(skip_completed=True)
    return tasks


def _what_failed(executor: PipelineExecutor, logs: AnyFolder, missing: Sequence[int]) -> str:
    told = [task for task in missing if logs.exists(f"{ERROR_FOLDER}/{task:05d}")]
    if told:
        return logs.read(f"{ERROR_FOLDER}/{told[0]:05d}").decode()
    log = f"{logs.url}/logs/task_{missing[0]:05d}.log"
    return f"{len(missing):,} of {executor.world_size:,} tasks failed: see {log}, then run it again, it continues"
