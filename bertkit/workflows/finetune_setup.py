"""What a fine-tuning run stands on: its resolved config, its folder, its model and optimizer, begun or continued."""

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.load import differing_keys
from bertkit.data.loader import Position
from bertkit.data.texts import TextEncoder
from bertkit.data.tokenizer import load_tokenizer
from bertkit.errors import CheckpointError, ConfigError
from bertkit.model.families import class_for, config_from
from bertkit.tasks.problem import Problem, ProblemOptions
from bertkit.tasks.problems import PROBLEMS
from bertkit.train.checkpoint import Checkpoint, latest_checkpoint, list_checkpoints, load_weights, restore
from bertkit.train.state import TrainState
from bertkit.workflows.check import checked
from bertkit.workflows.heads import (
    add_lora,
    freeze,
    freeze_unread,
    layer_scale,
    load_with_head,
    merged,
    require_fitting,
    with_bilstm_scale,
)
from bertkit.workflows.runs import RunFolder, kept_whole, write_aside
from bertkit.workflows.source import bert_folder, open_bert_config, require_room
from bertkit.workflows.task_data import TaskData, find_spec, option_values, vars_of
from bertkit.workflows.training import build_state, require_same_step
from bertkit.workflows.watch import Watcher

logger = logging.getLogger(__name__)

# A run that collapsed begins again with a seed this much further on, so that retries of several seeds never meet.
SEED_STEP = 1000
# A BiLSTM from its beginning learns nothing at the rates that suit a pre-trained encoder; Adam's own default.
NEW_BILSTM_RATE = 1e-3


@dataclass(frozen=True)
class Setting:
    """What stays the same all through one attempt."""

    config: FinetuneConfig
    run: RunFolder
    data: TaskData
    accelerator: Accelerator
    watch: Watcher
    encoder: TextEncoder
    options: ProblemOptions
    seed: int

    @property
    def problem(self) -> Problem:
        """The kind of problem the task is."""
        return PROBLEMS[self.data.spec.problem]


def planned(config: FinetuneConfig) -> FinetuneConfig:
    """The config as far as it can be resolved without reading an example."""
    spec = find_spec(config.task)
    return resolve(config, TaskData(spec, [], {}, ()))


def resolve(config: FinetuneConfig, data: TaskData) -> FinetuneConfig:
    """The config with the task's own values where it says none, so that what is written down is what runs."""
    defaults, optim, train = data.spec.defaults, config.optim, config.train
    values = option_values(config.task, data.spec)
    length = values["max_seq_length"]
    stride = values["doc_stride"] or min(defaults.doc_stride or length // 2, length // 2)
    chosen = {"problem": data.spec.problem, "max_seq_length": length, "doc_stride": stride}
    if data.columns.texts:
        chosen |= vars_of(data.columns)
    model = config.model
    learning_rate = optim.learning_rate or (NEW_BILSTM_RATE if model.is_feature_based else defaults.learning_rate)
    if model.bilstm is not None and model.bilstm.learning_rate is None:
        rate = learning_rate if model.is_feature_based else NEW_BILSTM_RATE
        model = model.model_copy(update={"bilstm": model.bilstm.model_copy(update={"learning_rate": rate})})
    epochs = train.epochs or (None if train.max_steps else defaults.epochs)
    batch = train.global_batch_size or defaults.global_batch_size
    return config.model_copy(
        update={
            "task": config.task.model_copy(update=chosen),
            "model": model,
            "optim": optim.model_copy(update={"learning_rate": learning_rate}),
            "train": train.model_copy(update={"epochs": epochs, "global_batch_size": batch}),
        }
    )


def finished_results(run: RunFolder, config: FinetuneConfig, data: TaskData) -> dict[str, Any] | None:
    """The results of a run of this config that came to its end, None where there is none.

    Raises:
        CheckpointError: it was trained on other examples, or its export is gone.
    """
    if not run.is_finetuning() or not run.results_file.is_file():
        return None
    results = run.read_results()
    # A folder of another config is refused when it is claimed.
    if differing_keys(run.read_config(FinetuneConfig), config):
        return None
    # A run that collapsed may have been killed before or while it began again.
    if _begins_again(results, config) and _same_examples(results, data):
        return None
    run.require_model()
    if not _same_examples(results, data):
        raise CheckpointError(_other_examples(run))
    return results


def _begins_again(results: Mapping[str, Any], config: FinetuneConfig) -> bool:
    return bool(results.get("collapsed")) and results["attempts"] <= config.train.retry_collapsed


def claim_run(config: FinetuneConfig, run: RunFolder, data: TaskData) -> None:
    """Makes the folder this run's, with the tokenizer it uses and a mark of the examples it began with.

    Raises:
        ConfigError: the folder is another run's, or something else.
        CheckpointError: the run in it began with other examples.
    """
    run.claim(config)
    if not list_checkpoints(run.checkpoints):
        with kept_whole(run.tokenizer) as aside:
            load_tokenizer(bert_folder(config.model.init_from)).pretrained.save_pretrained(aside)
        begin_anew(run, data, attempt=_attempt_to_begin(run, config))
    elif not _same_examples(read_pinned(run), data):
        raise CheckpointError(_other_examples(run))


def _attempt_to_begin(run: RunFolder, config: FinetuneConfig) -> int:
    """The attempt that had begun; behind one that ended in a collapse, the next."""
    if run.results_file.is_file() and _begins_again(results := run.read_results(), config):
        return int(results["attempts"])
    return int(read_pinned(run)["attempt"]) if run.pinned_file.is_file() else 0


def begin_anew(run: RunFolder, data: TaskData, *, attempt: int) -> None:
    """Empties the run for its first attempt, or for another one."""
    for path in (run.checkpoints, run.export):
        shutil.rmtree(path, ignore_errors=True)
    for path in (run.metrics_file, run.results_file, run.predictions_file):
        path.unlink(missing_ok=True)
    hashes = {"data_hash": data.content_hash(), "evaluation_hash": data.evaluation_hash()}
    write_aside(run.pinned_file, json.dumps({**hashes, "attempt": attempt}) + "\n")


def read_pinned(run: RunFolder) -> dict[str, Any]:
    """What the run is bound to: its examples, the number of its attempt, the architecture.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        pinned = json.loads(run.pinned_file.read_text(encoding="utf-8"))
        return {name: pinned.get(name) for name in ("data_hash", "evaluation_hash", "attempt", "architecture")}
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{run.pinned_file} is missing or damaged, so {run.path} cannot be opened") from error


def set_up(config: FinetuneConfig, run: RunFolder, data: TaskData, accelerator: Accelerator, watch: Watcher) -> Setting:
    """Everything a run needs before its folder is touched; the examples are checked on the way.

    Raises:
        ConfigError: there is no such model, or it has not what the run would train.
        TaskError: training on these examples would be wrong.
    """
    has_begun = bool(list_checkpoints(run.checkpoints))
    initial = None if has_begun else open_bert_config(config.model.init_from)
    tokenizer = load_tokenizer(run.tokenizer if has_begun else bert_folder(config.model.init_from))
    if initial is not None:
        require_fitting(config.model, initial)
        require_room(initial, tokenizer.vocabulary, config.model.init_from)
        longest = initial.max_position_embeddings
        if (config.task.max_seq_length or 0) > longest:
            raise ConfigError(
                f"task.max_seq_length {config.task.max_seq_length} exceeds the {longest} positions of "
                f"--from {config.model.init_from}: lower the first"
            )
    encoder = TextEncoder(tokenizer)
    watch.begin("checking the examples")
    options = ProblemOptions(labels=data.labels, **option_values(config.task, data.spec))
    options = checked(data, config.task, encoder, options)
    return Setting(config, run, data, accelerator, watch, encoder, options, config.train.seed)


def seed_of(config: FinetuneConfig, attempt: int) -> int:
    """The seed of an attempt, the first being number 0."""
    return config.train.seed + SEED_STEP * attempt


def begin_or_resume(setting: Setting) -> tuple[nn.Module, TrainState]:
    """The model with what of it is trained, and the state to go on from: the last good checkpoint's, or the first."""
    config, run = setting.config, setting.run
    checkpoint = latest_checkpoint(run.checkpoints)
    if checkpoint is None:
        plain = load_with_head(config.model, setting.problem, setting.data.labels, seed=setting.seed)
        if setting.accelerator.is_main_process:
            pinned = {**read_pinned(run), "architecture": plain.config.to_dict()}
            write_aside(run.pinned_file, json.dumps(pinned, indent=2) + "\n")
    else:
        # Whatever the run was begun from is needed no more.
        plain = _pinned_model(setting)
    model = _trainable(setting, plain)
    scale_of = rate_scale(config, plain.config.num_hidden_layers)
    state = build_state(model, config.optim, setting.accelerator, seed=setting.seed, scale_of=scale_of)
    if checkpoint is not None:
        scaler = setting.accelerator.scaler
        restore(checkpoint, state, model=model, position=lambda saved: Position(**saved), scaler=scaler)
        logger.info("continuing %s from step %s", run.path, f"{state.step:,}")
    require_same_step(state, setting.accelerator)
    return model, state


def rate_scale(config: FinetuneConfig, num_layers: int) -> Callable[[str], float]:
    """By a parameter's name, its learning rate over that of the head."""
    scale = layer_scale(num_layers, config.optim.layer_decay)
    rate = config.model.bilstm and config.model.bilstm.learning_rate
    return with_bilstm_scale(scale, rate / (config.optim.learning_rate or rate)) if rate else scale


def open_plain(setting: Setting, checkpoint: Checkpoint) -> PreTrainedModel:
    """A checkpoint's model on the host, its adapters merged: what no process shares with another and nothing wraps."""
    model = _trainable(setting, _pinned_model(setting))
    load_weights(checkpoint, model)
    return merged(model)


def _pinned_model(setting: Setting) -> PreTrainedModel:
    """The run's model without its weights."""
    architecture = config_from(read_pinned(setting.run)["architecture"])
    model: PreTrainedModel = class_for(architecture, setting.problem.model_class)(architecture)
    return model


def _trainable(setting: Setting, plain: PreTrainedModel) -> nn.Module:
    config = setting.config
    if config.train.gradient_checkpointing:
        plain.activation_checkpointing_enable()
    if config.model.lora is not None:
        return add_lora(plain, config.model.lora, seed=setting.seed)
    freeze(plain, config.model.freeze)
    if config.model.bilstm is not None:
        freeze_unread(plain, config.model.bilstm)
    return plain


def _same_examples(kept: Mapping[str, Any], data: TaskData) -> bool:
    """Whether what is trained on and what is scored are those of a run, by the hashes it kept."""
    return kept.get("data_hash") == data.content_hash() and kept.get("evaluation_hash") in (
        None,
        data.evaluation_hash(),
    )


def _other_examples(run: RunFolder) -> str:
    return f"the examples are not those {run.path} was begun with: put them back, or choose another --output-dir"
