"""From text to a pre-trained, evaluated and exported BERT."""

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from transformers import PreTrainedModel

from bertkit.config.data import DataConfig
from bertkit.config.load import differing_keys, validate_config
from bertkit.config.schema import EveryConfig, MaskingConfig, PretrainConfig
from bertkit.data.loader import Position, PretrainingLoader
from bertkit.data.store import TOKENIZER_FOLDER, TokenStore, is_store
from bertkit.errors import ConfigError, redacted
from bertkit.train.checkpoint import latest_checkpoint, list_checkpoints, restore
from bertkit.train.energy import require_meter
from bertkit.train.loop import NonFiniteLossError, StepReport
from bertkit.train.processes import launched_processes
from bertkit.train.setup import close_accelerator, main_says
from bertkit.train.state import TrainState
from bertkit.train.trackers import end_trackers, log_results, start_trackers, trackers_told_of_a_failure
from bertkit.train.tracking import MetricsLog, read_metrics
from bertkit.workflows.assemble import (
    build_loader,
    build_new_model,
    pretraining_target_counts,
    pretraining_terms,
    run_budget,
)
from bertkit.workflows.evaluate import score_heldout, score_run
from bertkit.workflows.export import export
from bertkit.workflows.health import HealthWatch, reference_of
from bertkit.workflows.initial import load_initial, model_class, with_initial_shape
from bertkit.workflows.pinned import (
    build_pinned_model,
    open_pinned_store,
    open_store,
    pin,
    pinned_architecture,
    store_path,
)
from bertkit.workflows.prepare import prepare
from bertkit.workflows.provenance import (
    count_parameters,
    kept_provenance,
    measuring_energy,
    provenance_of_pretraining,
    with_cost,
)
from bertkit.workflows.runs import RunFolder, write_aside
from bertkit.workflows.training import (
    build_run_accelerator,
    build_state,
    drive,
    require_divisible,
    require_same_step,
    save,
    training_steps,
)
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
    run = RunFolder(output_dir)
    config = _resolve(config, run)
    processes = launched_processes()
    require_divisible(config.train, processes.number)
    if config.every.energy:
        require_meter()
    with closing(run), processes.watched():
        # Before the process group is there: however long preparing takes, no collective waits for it.
        processes.main_first(lambda: _claim_and_prepare(config, run, watch))
        summary = _train_and_evaluate(config, run, watch)
        if summary.stopped_by is not None:
            return summary
        watch.begin("exporting")
        processes.main_first(lambda: export(output_dir, config=config))
    return replace(summary, export_dir=run.export)


def _train_and_evaluate(config: PretrainConfig, run: RunFolder, watch: Watcher) -> PretrainSummary:
    accelerator = build_run_accelerator(config.train, config.every)
    setting = _Setting(config, run, open_store(store_path(config, run), config.data), accelerator, watch)
    watch.begin("pre-training")
    with trackers_told_of_a_failure(accelerator):
        with measuring_energy(run, config.every, accelerator):
            summary = _train(setting)
        if summary.stopped_by is None:
            summary = replace(summary, results=_score(setting, summary))
            log_results(accelerator, {"heldout": summary.results.get("heldout", {})}, step=summary.step)
        else:
            end_trackers(accelerator, "stopped")
    close_accelerator(accelerator)
    return summary


def _score(setting: _Setting, summary: PretrainSummary) -> dict[str, Any]:
    """Writes what came of the run and where it came from; returns it, nothing where nothing is held out."""
    run, config = setting.run, setting.config
    provenance = _provenance(setting, summary)
    if setting.store.split("heldout").num_documents:
        setting.watch.begin("evaluating")
        return score_run(run, config=config, provenance=provenance, watch=setting.watch)
    if setting.accelerator.is_main_process:
        results = {"step": summary.step, "heldout": {}, "provenance": provenance}
        write_aside(run.results_file, json.dumps(results, indent=2) + "\n")
    return {}


def _provenance(setting: _Setting, summary: PretrainSummary) -> dict[str, Any]:
    run, config = setting.run, setting.config
    if kept := kept_provenance(run, step=summary.step):
        # It had come to its end before, and not one step was trained now.
        return kept
    parameters = count_parameters(model_class(config), pinned_architecture(run))
    known = provenance_of_pretraining(config, run, setting.store, setting.accelerator, parameters=parameters)
    return with_cost(known, run, elapsed_s=summary.elapsed_s, tokens=summary.tokens)


def _resolve(config: PretrainConfig, run: RunFolder) -> PretrainConfig:
    """What will really run: the shape of the model to continue from, the settings a prepared store was made with."""
    if config.corpus is None:
        raise ConfigError("no corpus was named: bertkit pretrain CORPUS")
    if config.direction != "bidirectional" and config.masking != MaskingConfig():
        logger.warning("objective %s masks nothing: the settings under 'masking' are not used", config.objective)
    if list_checkpoints(run.checkpoints) and run.config_file.is_file():
        begun = run.read_config(PretrainConfig)
        if config.train.init_from is not None and config.train.init_from == begun.train.init_from:
            # The model the run began from is needed no more, and may be gone.
            config = config.model_copy(update={"model": begun.model, "data": begun.data})
    else:
        config = with_initial_shape(config)
    if is_store(location := str(config.corpus)):
        config = config.model_copy(update={"data": _prepared_settings(location, config.data)})
    return config


def _prepared_settings(location: str, asked: DataConfig) -> DataConfig:
    store = open_store(location, asked)
    settings = dict(store.manifest.settings) | {"cache_dir": asked.cache_dir, "cache_gb": asked.cache_gb}
    if "given" in settings["tokenizer"]:
        settings["tokenizer"] = {"path": f"{store.location}/{TOKENIZER_FOLDER}"}
    prepared = validate_config(DataConfig, settings, source=store.location)
    if differing_keys(prepared, asked):
        logger.info("the settings under 'data' are those %s was prepared with", redacted(store.location))
    return prepared


def _claim_and_prepare(config: PretrainConfig, run: RunFolder, watch: Watcher) -> None:
    is_new = run.claim(config)
    try:
        # A run that has begun goes on with the text it began with, and does not read the corpus again.
        if store_path(config, run) == run.store and not list_checkpoints(run.checkpoints):
            if config.train.init_from is not None:
                load_initial(config)  # what cannot be opened should not be found out after hours of preparing
            watch.begin("preparing")
            needs_pairs = config.pairs.next_sentence == "nsp"
            prepare(str(config.corpus), run.store, config.data, needs_pairs=needs_pairs, on_progress=watch.work)
    except BaseException:
        if is_new:
            run.abandon()
        raise


def _train(setting: _Setting) -> PretrainSummary:
    """Trains to the end of the budget or to a signal, from the last good checkpoint if there is one."""
    config, accelerator, run = setting.config, setting.accelerator, setting.run
    state, model = _begin_or_resume(setting)
    start_trackers(accelerator, config.every.trackers, run.path, config_file=run.config_file, step=state.step)
    log = MetricsLog(run.metrics_file, accelerator=accelerator, from_step=state.step)
    try:
        stopped_by = drive(
            _steps(setting, state),
            state,
            accelerator=accelerator,
            every=_every(setting),
            log=log,
            watch=setting.watch,
            evaluate=lambda: _evaluate(setting, state),
            save=lambda: save(
                state, run.checkpoints, model=model, accelerator=accelerator, keep=config.every.keep_checkpoints
            ),
            notice=_doctor(setting),
        )
    except NonFiniteLossError as error:
        raise _with_remedy(error, run) from None
    return PretrainSummary(run.path, state.step, state.tokens, state.elapsed_s, stopped_by)


def _doctor(setting: _Setting) -> Callable[[Mapping[str, float]], None]:
    """Warns in words when a figure leaves what runs of this size show, and not again after a stop."""
    config, run = setting.config, setting.run
    if not setting.accelerator.is_main_process:
        return lambda row: None
    watch = HealthWatch(reference_of(setting.store, config))
    said = read_metrics(run.metrics_file) if run.metrics_file.is_file() else []
    for row in said:
        watch.add(row)

    def notice(row: Mapping[str, float]) -> None:
        for found in watch.add(row):
            logger.warning("%s", found.text)

    for found in [] if said else watch.of_corpus():
        logger.warning("%s", found.text)
    return notice


def _begin_or_resume(setting: _Setting) -> tuple[TrainState, PreTrainedModel]:
    config, accelerator, run = setting.config, setting.accelerator, setting.run
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is None:
        model = build_new_model(config, setting.store.vocabulary)
        if accelerator.is_main_process:
            pin(run, setting.store, model)
    else:
        open_pinned_store(config, run, resumes=True)
        model = build_pinned_model(config, run)
    if config.train.gradient_checkpointing:
        model.activation_checkpointing_enable()
    state = build_state(model, config.optim, accelerator, seed=config.train.seed)
    if checkpoint is not None:
        restore(checkpoint, state, model=model, position=lambda saved: Position(**saved), scaler=accelerator.scaler)
        logger.info("continuing %s from step %s", run.path, f"{state.step:,}")
    require_same_step(state, accelerator)
    return state, model


def _evaluate(setting: _Setting, state: TrainState) -> dict[str, float]:
    scores = score_heldout(
        state.model,
        setting.store,
        setting.config,
        accelerator=setting.accelerator,
        max_seq_length=setting.config.train.phases[state.phase].max_seq_length,
    )
    return {f"heldout_{name}": value for name, value in scores.items()}


def _every(setting: _Setting) -> EveryConfig:
    """What happens when; without held-out documents, no evaluation."""
    every = setting.config.every
    if setting.store.split("heldout").num_documents:
        return every
    logger.warning("no document is held out, so the run will not be scored: see data.heldout_share")
    return every.model_copy(update={"evaluate_steps": None})


def _steps(setting: _Setting, state: TrainState) -> Iterator[tuple[StepReport, TrainingStatus]]:
    """Every step of the run that is left, phase after phase."""
    config, accelerator = setting.config, setting.accelerator
    budget = run_budget(config, setting.store)
    started_s = time.monotonic() - state.elapsed_s
    while (phase := budget.phase(step=state.step, elapsed_s=state.elapsed_s)) is not None:
        if phase != state.phase:
            # The next phase begins with an epoch that no phase before it has drawn.
            drawn = state.position.epoch + 1 if state.position else 0
            state.phase, state.position = phase, Position(epoch=drawn)
        loader = build_loader(config, setting.store, phase=phase, accelerator=accelerator)
        if state.step == 0:
            _warn_of_uneven_pairs(loader, config)
        title = f"phase {phase + 1}/{len(config.train.phases)}, length {config.train.phases[phase].max_seq_length}"
        reports = training_steps(
            state,
            loader,
            loss_fn=pretraining_terms,
            count_fn=pretraining_target_counts,
            micro_batch_tokens=config.train.micro_batch_tokens_of(phase),
            budget=budget,
            optim=config.optim,
            accelerator=accelerator,
        )
        with closing(reports):
            for report in reports:
                elapsed_s = time.monotonic() - started_s
                # Only a run by the clock decides by it, and then every process must decide alike.
                state.elapsed_s = elapsed_s if budget.max_seconds is None else main_says(accelerator, elapsed_s)
                progress = budget.progress(step=state.step, elapsed_s=state.elapsed_s)
                pairs = config.pairs.next_sentence
                yield report, TrainingStatus(state.step, progress, state.elapsed_s, title, pairs=pairs)
                if budget.phase(step=state.step, elapsed_s=state.elapsed_s) != phase:
                    break


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


def _with_remedy(error: NonFiniteLossError, run: RunFolder) -> NonFiniteLossError:
    saved = list_checkpoints(run.checkpoints)
    last = f"the last good checkpoint is {saved[0]}" if saved else "no checkpoint had been saved"
    return NonFiniteLossError(
        f"{error}; the weights were not updated and {last}: lower optim.learning_rate, lengthen optim.warmup_steps, or "
        "set train.precision=fp32"
    )
