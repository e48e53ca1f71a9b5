"""What can be measured, by name."""

from collections.abc import Callable

from bertkit.errors import ConfigError
from bertkit.workflows.bench.compare import BenchResult
from bertkit.workflows.bench.finetuning import bench_finetuning
from bertkit.workflows.bench.objectives import bench_objectives
from bertkit.workflows.bench.predicting import bench_prediction
from bertkit.workflows.bench.preparing import bench_preparing
from bertkit.workflows.bench.pretraining import bench_pretraining
from bertkit.workflows.bench.ranks import bench_ranks
from bertkit.workflows.bench.request import Request, default_precision
from bertkit.workflows.bench.resuming import bench_resuming
from bertkit.workflows.bench.starting import bench_startup

SUBJECTS: dict[str, Callable[[Request], BenchResult]] = {
    "pretrain": bench_pretraining,
    "objectives": bench_objectives,
    "finetune": bench_finetuning,
    "predict": bench_prediction,
    "prepare": bench_preparing,
    "resume": bench_resuming,
    "ranks": bench_ranks,
    "startup": bench_startup,
}


def bench(subject: str, request: Request) -> BenchResult:
    """Measures one subject.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    if subject not in SUBJECTS:
        raise ConfigError(f"there is nothing to measure called '{subject}': give one of {', '.join(SUBJECTS)}")
    if request.rounds < 1:
        raise ConfigError(f"--rounds {request.rounds} measures nothing: give 1 or more")
    # A precision the device lacks is found before any text is read.
    default_precision(request.config)
    return SUBJECTS[subject](request)
