"""From labelled examples and a pre-trained BERT to a model of a task: trained, chosen, scored, exported."""

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from bertkit.config.finetune import FinetuneConfig, FinetuneModelConfig
from bertkit.data.feature_loader import FeatureLoader
from bertkit.data.features import Features, concatenate_features
from bertkit.data.loader import Batching
from bertkit.errors import CheckpointError, ConfigError
from bertkit.model.families import class_for
from bertkit.tasks.problem import ProblemOptions
from bertkit.train.budget import Budget
from bertkit.train.checkpoint import Checkpoint, DamagedCheckpointError, load_weights, open_checkpoint
from bertkit.train.loop import NonFiniteLossError, StepReport
from bertkit.train.processes import launched_processes
from bertkit.train.setup import close_accelerator, main_says
from bertkit.train.state import TrainState
from bertkit.train.trackers import end_trackers, log_results, start_trackers, trackers_told_of_a_failure
from bertkit.train.tracking import MetricsLog, read_metrics
from bertkit.workflows.export import export_model
from bertkit.workflows.finetune_setup import (
    Setting,
    begin_anew,
    begin_or_resume,
    claim_run,
    finished_results,
    open_plain,
    read_pinned,
    resolve,
    seed_of,
    set_up,
)
from bertkit.workflows.heads import learned_shares
from bertkit.workflows.infer import EXAMPLES_A_CHUNK, Predictor, chunked
from bertkit.workflows.provenance import count_parameters, measuring_energy, provenance_of_finetuning, with_cost
from bertkit.workflows.runs import RunFolder, write_aside
from bertkit.workflows.scoring import Judged, headline, judge, score_split, score_splits, write_predictions
from bertkit.workflows.selection import Selection, collapse_reason
from bertkit.workflows.task_data import TaskData, load_task
from bertkit.workflows.thresholds import tuned_options
from bertkit.workflows.training import build_run_accelerator, drive, save, training_steps
from bertkit.workflows.watch import TrainingStatus, Unwatched, Watcher

logger = logging.getLogger(__name__)

EXAMPLES_AT_ONCE = 4096


@dataclass(frozen=True)
class FinetuneSummary:
    """What a run came to; `stopped_by` names a signal that ended it early, before it was scored and exported."""

    run_dir: Path
    results: dict[str, Any]
    stopped_by: str | None = None
    step: int = 0


def finetune(config: FinetuneConfig, output_dir: Path, *, watch: Watcher | None = None) -> FinetuneSummary:
    """Checks the examples, trains, keeps the best checkpoint, scores and exports it; an existing run is continued.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    watch = watch or Unwatched()
    run = RunFolder(output_dir)
    watch.begin("reading the examples")
    data = load_task(config)
    config = resolve(config, data)
    if finished := finished_results(run, config, data):
        # A kill in the last moment left them.
        shutil.rmtree(run.checkpoints, ignore_errors=True)
        logger.info("%s is finished already: its results are shown again", run.path)
        return FinetuneSummary(run.path, finished, step=finished["step"])
    processes = launched_processes()
    with closing(run), processes.watched():
        accelerator = build_run_accelerator(config.train, config.every)
        setting = set_up(config, run, data, accelerator, watch)
        is_new = not run.path.exists()
        processes.main_first(lambda: claim_run(config, run, data))
        try:
            seed = seed_of(config, read_pinned(run)["attempt"])
            with trackers_told_of_a_failure(accelerator):
                summary = _all_attempts(replace(setting, seed=seed))
        except BaseException:
            if is_new and processes.is_main:
                run.abandon()
            raise
        close_accelerator(accelerator)
    return summary


def _all_attempts(setting: Setting) -> FinetuneSummary:
    """Runs once, and again with other seeds for as long as the run collapses and retries are left."""
    summary = _attempt(setting)
    train = setting.config.train
    while summary.results.get("collapsed") and summary.results["attempts"] <= train.retry_collapsed:
        attempt = summary.results["attempts"]
        logger.warning("the run collapsed (%s) and begins again with another seed", summary.results["collapsed"])
        launched_processes().main_first(partial(begin_anew, setting.run, setting.data, attempt=attempt))
        summary = _attempt(replace(setting, seed=seed_of(setting.config, attempt)))
    return summary


def _attempt(setting: Setting) -> FinetuneSummary:
    """Trains from the last checkpoint, or from the first step, to the end; then chooses, scores and exports."""
    features = _featurize(setting)
    model, state = begin_or_resume(setting)
    selection = Selection(_figure(setting), patience=setting.config.train.early_stopping_patience)
    setting.watch.begin("fine-tuning")
    with measuring_energy(setting.run, setting.config.every, setting.accelerator):
        stopped_by = _train(setting, features, model, state, selection)
    if stopped_by is not None:
        end_trackers(setting.accelerator, "stopped")
        return FinetuneSummary(setting.run.path, {}, stopped_by, state.step)
    setting.watch.begin("scoring")
    best = _best_checkpoint(setting.run, selection)
    load_weights(best, model)
    return _finish(setting, features, state, selection, best)


def _best_checkpoint(run: RunFolder, selection: Selection) -> Checkpoint:
    try:
        return open_checkpoint(run.checkpoints / f"step-{selection.best_step:07d}")
    except DamagedCheckpointError as error:
        raise CheckpointError(f"{error}, and it is the best one: remove {run.checkpoints} to train again") from None


def _featurize(setting: Setting) -> Features:
    parts = []
    for chunk in chunked(setting.data.train, EXAMPLES_AT_ONCE):
        parts.append(setting.problem.featurize(chunk, setting.encoder, setting.options, True))
        setting.watch.work("encoding", sum(len(part) for part in parts), None)
    features = concatenate_features(parts)
    if features.num_cut:
        total, length = len(setting.data.train), setting.options.max_seq_length
        share = 100 * features.num_cut / total
        logger.info("%s", f"{features.num_cut:,} of {total:,} examples ({share:.1f} %) are cut at {length} tokens")
    return features


def _figure(setting: Setting) -> str:
    """The column of metrics.jsonl that chooses the best checkpoint."""
    figure = setting.config.task.metric or headline(setting.data.spec)
    return f"{next(iter(setting.data.evaluate))}_{figure}"


def _require_figure(setting: Setting, row: Mapping[str, float]) -> None:
    if _figure(setting) not in row:
        split = next(iter(setting.data.evaluate))
        known = [name.removeprefix(f"{split}_") for name in row if name.startswith(f"{split}_")]
        raise ConfigError(f"task.metric {setting.config.task.metric} is no figure here: give one of {', '.join(known)}")


def _train(
    setting: Setting, features: Features, model: nn.Module, state: TrainState, selection: Selection
) -> str | None:
    """Trains to the end, until nothing gets better, or to a signal, whose name is returned."""
    config, accelerator, run = setting.config, setting.accelerator, setting.run
    batch = config.train.global_batch_size or 1
    every = config.every
    if every.evaluate_steps is None:
        every = every.model_copy(update={"evaluate_steps": max(1, -(-features.num_groups // batch))})
    start_trackers(accelerator, every.trackers, run.path, config_file=run.config_file, step=state.step)
    log = MetricsLog(run.metrics_file, accelerator=accelerator, from_step=state.step)
    # The main process has just dropped the rows behind the checkpoint.
    accelerator.wait_for_everyone()
    selection.add_rows(_metrics(run))
    # In the batches of the final scoring, or bfloat16 would round a little otherwise.
    encoded = {
        split: [(c, _predictor(setting, state.model).featurize(c)) for c in chunked(rows, EXAMPLES_A_CHUNK)]
        for split, rows in setting.data.evaluate.items()
    }

    def evaluate() -> dict[str, float]:
        row = _evaluate(setting, _predictor(setting, state.model), encoded)
        _require_figure(setting, row)
        selection.add(state.step, main_says(accelerator, row[selection.figure]))
        best = ", the best so far" if selection.best_step == state.step else ""
        logger.info("step %s: %s %.4f%s", f"{state.step:,}", selection.figure, row[selection.figure], best)
        return row

    try:
        return drive(
            _steps(setting, features, state, selection),
            state,
            accelerator=accelerator,
            every=every,
            log=log,
            watch=setting.watch,
            evaluate=evaluate,
            save=lambda: save(
                state,
                run.checkpoints,
                model=model,
                accelerator=accelerator,
                keep=every.keep_checkpoints,
                best_step=selection.best_step,
            ),
            selects=True,
        )
    except NonFiniteLossError as error:
        raise NonFiniteLossError(
            f"{error}; the weights were not updated: lower optim.learning_rate, lengthen optim.warmup_steps, or set "
            "train.precision=fp32"
        ) from None


def _steps(
    setting: Setting, features: Features, state: TrainState, selection: Selection
) -> Iterator[tuple[StepReport, TrainingStatus]]:
    config, accelerator = setting.config, setting.accelerator
    batch = config.train.global_batch_size or 1
    max_steps = config.train.max_steps or max(1, round((config.train.epochs or 1) * features.num_groups / batch))
    if state.step >= max_steps or selection.is_over:
        return
    sharing = Batching(batch, config.train.micro_batch_size, accelerator.process_index, accelerator.num_processes)
    started_s = time.monotonic() - state.elapsed_s
    reports = training_steps(
        state,
        FeatureLoader(features, seed=setting.seed, batching=sharing),
        loss_fn=setting.problem.loss_terms,
        count_fn=setting.problem.target_counts,
        micro_batch_tokens=config.train.micro_batch_tokens,
        budget=Budget((1.0,), max_steps=max_steps),
        optim=config.optim,
        accelerator=accelerator,
    )
    with closing(reports):
        for report in reports:
            state.elapsed_s = time.monotonic() - started_s
            reported_s = time.monotonic()
            epoch = f"epoch {state.step * batch / features.num_groups:.1f}"
            yield report, TrainingStatus(state.step, state.step / max_steps, state.elapsed_s, epoch)
            # Evaluating and saving are no part of the time that training takes.
            started_s += time.monotonic() - reported_s
            if state.step >= max_steps or selection.is_over:
                break


def _predictor(setting: Setting, model: nn.Module, options: ProblemOptions | None = None) -> Predictor:
    return Predictor(setting.problem, model, setting.encoder, options or setting.options, setting.accelerator)


def _evaluate(setting: Setting, predictor: Predictor, encoded: dict[str, list[Any]]) -> dict[str, float]:
    """The figures of every split, as a row of metrics.jsonl."""
    row: dict[str, float] = {}
    for split, chunks in encoded.items():
        judged = [each for rows, features in chunks for each in judge(rows, predictor.predict_chunk(rows, features))]
        scores = score_split(setting.data.spec, judged)
        row |= {f"{split}_{name}": value for name, value in scores.items() if isinstance(value, int | float)}
    return row


def _finish(
    setting: Setting, features: Features, state: TrainState, selection: Selection, best: Checkpoint
) -> FinetuneSummary:
    """Scores the chosen model on every split, predictions first, and hands it over as a stock BERT folder."""
    run, data = setting.run, setting.data
    judged = _judge_all(setting, state.model, setting.options)
    options = tuned_options(setting.config.task, data.spec, setting.options, next(iter(judged.values())))
    if options != setting.options:
        judged = _judge_all(setting, state.model, options)
    losses = [row["loss"] for row in _metrics(run) if "loss" in row]
    weights = dict(zip(options.labels, options.class_weights, strict=True)) if options.class_weights else None
    first = next(iter(judged.values()))
    if setting.accelerator.is_main_process:
        write_predictions(run.predictions_file, judged)
    results = {
        "task": data.spec.name,
        "problem": data.spec.problem,
        **_method(setting.config.model),
        "seed": setting.seed,
        "step": state.step,
        "best_step": selection.best_step,
        "scores": score_splits(data.spec, judged, null_threshold=options.null_threshold),
        "headline": _figure(setting),
        "collapsed": collapse_reason(data.spec.problem, first, data.train, losses, class_weights=weights),
        "attempts": read_pinned(run)["attempt"] + 1,
        "num_train_examples": len(data.train),
        "share_cut": features.num_cut / len(data.train),
        "elapsed_s": state.elapsed_s,
        "tokens_per_s": state.tokens / max(state.elapsed_s, 1e-9),
        "data_hash": data.content_hash(),
        "evaluation_hash": data.evaluation_hash(),
        "options": describe_options(data, options),
        "provenance": _provenance(setting, state),
    }
    log_results(setting.accelerator, results["scores"], step=state.step)
    if setting.accelerator.is_main_process:
        setting.watch.begin("exporting")
        plain = open_plain(setting, best)
        # Of this model no process holds a part only.
        results["layer_shares"] = learned_shares(plain)
        _export(setting, plain, options)
        write_aside(run.results_file, json.dumps(results, indent=2) + "\n")
        # The export is the model from here on; what is missing of the last lines, the same command makes good.
        shutil.rmtree(run.checkpoints, ignore_errors=True)
    setting.accelerator.wait_for_everyone()
    return FinetuneSummary(run.path, results, step=state.step)


def _method(model: FinetuneModelConfig) -> dict[str, Any]:
    """Which of the paper's two approaches, and the layers that a BiLSTM reads; their shares are known at the end."""
    method = "feature-based" if model.is_feature_based else "fine-tuning"
    return {"method": method, "layers": model.bilstm and model.bilstm.layers, "layer_shares": None}


def _provenance(setting: Setting, state: TrainState) -> dict[str, Any]:
    architecture = read_pinned(setting.run)["architecture"]
    model_class = class_for(architecture["model_type"], setting.problem.model_class)
    parameters = count_parameters(model_class, architecture)
    known = provenance_of_finetuning(
        setting.config, setting.run, setting.data, setting.accelerator, seed=setting.seed, parameters=parameters
    )
    return with_cost(known, setting.run, elapsed_s=state.elapsed_s, tokens=state.tokens)


def _metrics(run: RunFolder) -> list[dict[str, Any]]:
    return read_metrics(run.metrics_file) if run.metrics_file.is_file() else []


def _judge_all(setting: Setting, model: nn.Module, options: ProblemOptions) -> dict[str, list[Judged]]:
    predictor = _predictor(setting, model, options)
    return {
        split: judge(rows, predictor.predict(rows), keep=setting.data.spec.columns)
        for split, rows in setting.data.evaluate.items()
    }


def describe_options(data: TaskData, options: ProblemOptions) -> dict[str, Any]:
    """What a model must carry along so that prediction repeats training."""
    kept = {name: value for name, value in vars(options).items() if name not in ("labels", "class_weights")}
    kept["thresholds"] = None if options.thresholds is None else list(options.thresholds)
    return {"task": data.spec.name, "problem": data.spec.problem, "metrics": list(data.spec.metrics), **kept}


def _export(setting: Setting, model: PreTrainedModel, options: ProblemOptions) -> None:
    model.config.bertkit = describe_options(setting.data, options)
    export_model(
        model,
        setting.run.tokenizer,
        setting.run.export,
        model_max_length=model.config.max_position_embeddings,
    )
