"""`bertkit bench resume`: from `bertkit pretrain RUN` to the first step done, early in a run and late in it."""

import contextlib
import shutil
import time
from functools import partial
from pathlib import Path

from bertkit.config.schema import PretrainConfig
from bertkit.data.loader import Position
from bertkit.data.store import TokenStore
from bertkit.train.checkpoint import open_checkpoint, restore, save_checkpoint
from bertkit.train.setup import build_accelerator
from bertkit.workflows.assemble import build_loader
from bertkit.workflows.bench.compare import BenchResult, Comparison, Pair, compare
from bertkit.workflows.bench.corpora import prepared_sample
from bertkit.workflows.bench.pretraining import bench_phase
from bertkit.workflows.bench.request import Request, device_type, machine, quieten_transformers, shape_said
from bertkit.workflows.bench.sides import Round, Side, Worker, reset_peak
from bertkit.workflows.pinned import build_pinned_model
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.training import build_state
from bertkit.workflows.watch import TrainingStatus, Unwatched

EARLY, LATE = 10, 100_000


class _Enough(Exception):  # noqa: N818  # no error: how a watcher leaves a run
    """The step that was waited for is done."""


class _Until(Unwatched):
    """Leaves a run, as a kill would, once a step is done."""

    def __init__(self, step: int) -> None:
        self._step = step

    def training(self, status: TrainingStatus) -> None:
        """Leaves at the step."""
        if status.step >= self._step:
            raise _Enough


def bench_resuming(request: Request) -> BenchResult:
    """Takes two runs of one store in turn, one at step 10 and one at step 100,000, each to its next step.

    The late one is forged: the weights of step 10, and the place in the data that so many steps reach.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    with prepared_sample(request.config, request.corpus, watch=request.watch) as (sample, folder):
        config = _endless(request.config, sample.store)
        early, late = folder / "early", folder / "late"
        request.watch.begin(f"training to step {EARLY}")
        train_until(config, early, step=EARLY + 1)
        epoch = forge(config, sample.store, early, late)
        sides = tuple(
            Side(f"step {step:,}", partial(build, config, run, step)) for step, run in ((EARLY, early), (LATE, late))
        )
        comparison = Comparison(
            subject="resume",
            unit="starts/s",
            sides=sides,
            pairs=(Pair(f"step {LATE:,} over step {EARLY}: less is better", sides[0].name, sides[1].name),),
            settings={
                **shape_said(config, sample.store.manifest.vocab_size),
                "data": f"{sample.store.split('train').num_tokens:,} tokens; step {LATE:,} is in epoch {epoch:,}",
            },
            machine=machine(),
            has_memory=False,
            notes=("from opening the run to its next optimizer step, in a process that has imported everything",),
        )
        return compare(comparison, rounds=request.rounds, steps=1, watch=request.watch)


def build(config: PretrainConfig, run: Path, step: int) -> Worker:
    """A side that continues a run for one step, and leaves nothing behind."""
    quieten_transformers()
    base_bytes = reset_peak(device_type())

    def work(_: int) -> Round:
        started_s = time.perf_counter()
        train_until(config, run, step=step + 1)
        return Round((time.perf_counter() - started_s,), amount=1)

    return Worker(work, pace_s=work(1).total_s, base_bytes=base_bytes, device=device_type())


def train_until(config: PretrainConfig, run: Path, *, step: int) -> None:
    """Runs `bertkit pretrain` until `step` is done, and leaves it there."""
    with contextlib.suppress(_Enough):
        pretrain(config, run, watch=_Until(step))


def forge(config: PretrainConfig, store: TokenStore, early: Path, late: Path) -> int:
    """Makes of the run `early` one that stands at step 100,000 of the same store; returns the epoch it is in."""
    shutil.copytree(early, late)
    run = RunFolder(late)
    checkpoint = open_checkpoint(run.checkpoints / f"step-{EARLY:07d}")
    model = build_pinned_model(config, run)
    state = build_state(model, config.optim, build_accelerator("fp32"), seed=config.train.seed)
    restore(checkpoint, state, model=model, position=lambda saved: Position(**saved))
    per_epoch = build_loader(config, store, phase=0).num_instances()
    epoch, instance = divmod(LATE * config.train.global_batch_size, per_epoch)
    state.step, state.position = LATE, Position(epoch=epoch, instance=instance)
    save_checkpoint(state, run.checkpoints, model=model)
    return epoch


def _endless(config: PretrainConfig, store: TokenStore) -> PretrainConfig:
    """The config of a run on the prepared store that does not come to its end, in one phase, saved at step 10 only."""
    phase = config.train.phases[bench_phase(config)].model_copy(update={"share": 1.0})
    length = {"max_steps": 10 * LATE, "epochs": None, "max_minutes": None}
    train = config.train.model_copy(update={"phases": (phase,), **length})
    never = {"save_steps": EARLY, "save_minutes": None, "evaluate_steps": None, "trackers": ()}
    every = config.every.model_copy(update=never)
    return config.model_copy(update={"corpus": store.location, "train": train, "every": every})
