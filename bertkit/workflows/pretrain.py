"""From text to a pre-trained, evaluated and exported BERT."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn

from bertkit.config.schema import PretrainConfig
from bertkit.data.loader import Position, PretrainingLoader
from bertkit.data.store import TokenStore
from bertkit.errors import BertkitError, ConfigError
from bertkit.train.budget import LearningRate
from bertkit.train.checkpoint import latest_checkpoint, list_checkpoints, restore, save_checkpoint
from bertkit.train.loop import NonFiniteLossError, StepReport, train_steps
from bertkit.train.setup import main_says
from bertkit.train.state import TrainState
from bertkit.train.tracking import MetricsLog
from bertkit.workflows.assemble import (
    build_loader,
    build_run_accelerator,
    build_state,
    pretraining_target_counts,
    pretraining_terms,
    run_budget,
    with_initial_shape,
)
from bertkit.workflows.evaluate import evaluate, score_heldout, store_path
from bertkit.workflows.export import export
from bertkit.workflows.prepare import prepare
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.training import drive
from bertkit.workflows.watch import TrainingStatus, Unwatched, Watcher

logger = logging.getLogger(__name__)

# A share of random next sentences further than this from the one asked for is worth a warning.
_NOTICEABLE = 0.05


@dataclass(frozen=True)
class PretrainSummary:
    """What a run came to; `stopped_by` names a signal that ended it early, before it was scored and exported."""

    run_dir: Path
    step: int
    tokens: int
    elapsed_s: float
    stopped_by: str | None = None
    results: dict[str, Any] = field(default_factory=dict)
    export_dir: Path | None = None


@dataclass(frozen=True)
class _Setting:
    """What stays the same all through one run."""

    config: PretrainConfig
    run: RunFolder
    store: TokenStore
    accelerator: Accelerator
    watch: Watcher


def pretrain(config: PretrainConfig, output_dir: Path, *, watch: Watcher | None = None) -> PretrainSummary:
    """Prepares the corpus, pre-trains, evaluates and exports; an existing run folder of the same config is continued.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    watch = watch or Unwatched()
    config = with_initial_shape(config)
    run = RunFolder(output_dir)
    accelerator = build_run_accelerator(config, run.path)
    with accelerator.main_process_first():
        store = _claim_and_prepare(config, run, watch)
    if not store.split("heldout").num_documents:
        logger.warning("no document is held out, so the run will not be scored: see data.heldout_share")
        config = config.model_copy(update={"every": config.every.model_copy(update={"evaluate_steps": None})})
    setting = _Setting(config, run, store, accelerator, watch)

    watch.begin("pre-training")
    state, stopped_by = _train(setting)
    summary = PretrainSummary(output_dir, state.step, state.tokens, state.elapsed_s, stopped_by)
    if stopped_by is not None or not setting.accelerator.is_main_process:
        return summary

    watch.begin("evaluating")
    results = evaluate(output_dir, watch=watch) if store.split("heldout").num_documents else {}
    watch.begin("exporting")
    return PretrainSummary(
        output_dir, state.step, state.tokens, state.elapsed_s, results=results, export_dir=export(output_dir)
    )


def _claim_and_prepare(config: PretrainConfig, run: RunFolder, watch: Watcher) -> TokenStore:
    is_new = run.claim(config)
    try:
        return open_or_prepare_store(config, run, watch)
    except BertkitError:
        if is_new:
            run.abandon()
        raise


def open_or_prepare_store(config: PretrainConfig, run: RunFolder, watch: Watcher) -> TokenStore:
    """The store the corpus already is, or the one made from it in the run folder.

    Raises:
        ConfigError: no corpus was named.
        CorpusError: the corpus or the store cannot be used.
    """
    if config.corpus is None:
        raise ConfigError("no corpus was named: bertkit pretrain CORPUS")
    path = store_path(config, run)
    # A run that has begun goes on with the text it began with, and does not read the corpus again.
    if path == run.store and not list_checkpoints(run.checkpoints):
        watch.begin("preparing")
        needs_pairs = config.pairs.next_sentence == "nsp"
        prepare(config.corpus, path, config.data, needs_pairs=needs_pairs, on_progress=watch.work)
    return TokenStore.open(path)


def _train(setting: _Setting) -> tuple[TrainState, str | None]:
    """Trains to the end of the budget or to a signal, from the last good checkpoint if there is one."""
    config, accelerator = setting.config, setting.accelerator
    state, model = build_state(config, setting.store.vocabulary, accelerator)
    _resume(setting, state, model)
    if config.every.trackers:
        accelerator.init_trackers("trackers")
    try:
        stopped_by = drive(
            _steps(setting, state),
            state,
            accelerator=accelerator,
            every=config.every,
            log=MetricsLog(setting.run.metrics_file, accelerator=accelerator, from_step=state.step),
            watch=setting.watch,
            evaluate=lambda: score_heldout(state.model, setting.store, config, accelerator),
            save=lambda: _save(setting, state, model),
        )
    except NonFiniteLossError as error:
        raise _with_remedy(error, setting.run) from None
    finally:
        accelerator.end_training()
    return state, stopped_by


def _resume(setting: _Setting, state: TrainState, model: nn.Module) -> None:
    checkpoint = latest_checkpoint(setting.run.checkpoints)
    if checkpoint is not None:
        restore(
            checkpoint, state, model=model, position=lambda saved: Position(**saved), scaler=setting.accelerator.scaler
        )
        logger.info("continuing %s from step %s", setting.run.path, f"{state.step:,}")


def _steps(setting: _Setting, state: TrainState) -> Iterator[tuple[StepReport, TrainingStatus]]:
    """Every step of the run that is left, phase after phase."""
    config, accelerator = setting.config, setting.accelerator
    budget = run_budget(config, setting.store, num_processes=accelerator.num_processes)
    optim = config.optim
    rate = LearningRate(optim.learning_rate, optim.warmup_steps, optim.schedule)
    started_s = time.monotonic() - state.elapsed_s
    while (phase := budget.phase(step=state.step, elapsed_s=state.elapsed_s)) is not None:
        if phase != state.phase:
            state.phase, state.position = phase, None
        loader = build_loader(config, setting.store, phase=phase, accelerator=accelerator)
        if state.step == 0:
            _warn_of_uneven_pairs(loader, config)
        batches = loader.steps(state.position or Position())
        title = f"{phase + 1}/{len(config.train.phases)}, length {config.train.phases[phase].max_seq_length}"
        reports = train_steps(
            state,
            batches,
            pretraining_terms,
            count_fn=pretraining_target_counts,
            learning_rate_fn=lambda now: rate.at(budget, step=now.step, elapsed_s=now.elapsed_s),
            accelerator=accelerator,
            max_grad_norm=optim.max_grad_norm,
        )
        try:
            for report in reports:
                state.elapsed_s = main_says(accelerator, time.monotonic() - started_s)
                progress = budget.progress(step=state.step, elapsed_s=state.elapsed_s)
                yield report, TrainingStatus(state.step, progress, state.elapsed_s, title)
                if budget.phase(step=state.step, elapsed_s=state.elapsed_s) != phase:
                    break
        finally:
            batches.close()


def _warn_of_uneven_pairs(loader: PretrainingLoader, config: PretrainConfig) -> None:
    if config.pairs.next_sentence != "nsp":
        return
    asked, given = config.pairs.random_next_probability, loader.random_next_share()
    if abs(asked - given) > _NOTICEABLE:
        reason = "most documents hold one sentence" if given > asked else "one document holds most of the corpus"
        logger.warning(
            "%.0f%% of next sentences are random instead of %.0f%%, because %s: see data.document and data.sentences",
            100 * given,
            100 * asked,
            reason,
        )


def _save(setting: _Setting, state: TrainState, model: nn.Module) -> None:
    if setting.accelerator.is_main_process:
        save_checkpoint(
            state,
            setting.run.checkpoints,
            model=model,
            scaler=setting.accelerator.scaler,
            keep=setting.config.every.keep_checkpoints,
        )
    setting.accelerator.wait_for_everyone()


def _with_remedy(error: NonFiniteLossError, run: RunFolder) -> NonFiniteLossError:
    saved = list_checkpoints(run.checkpoints)
    last = f"the last good checkpoint is {saved[0]}" if saved else "no checkpoint had been saved"
    return NonFiniteLossError(
        f"{error}; the weights were not updated and {last}: lower optim.learning_rate, lengthen optim.warmup_steps, or "
        "set train.precision=fp32"
    )
