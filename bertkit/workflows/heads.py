"""From a pre-trained BERT to the model that is fine-tuned: a new head, and what else begins anew or stays as it is."""

import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, PreTrainedModel

from bertkit.config.finetune import FinetuneModelConfig, LoraConfig
from bertkit.errors import ConfigError
from bertkit.model import BertKitConfig
from bertkit.tasks.problem import Problem
from bertkit.workflows.runs import RunFolder

logger = logging.getLogger(__name__)

_HF_PROBLEM_TYPES = {
    "classification": "single_label_classification",
    "regression": "regression",
    "multi_label": "multi_label_classification",
}

_RUNS_NAMED = 8


def bert_folder(source: str) -> str:
    """What transformers can open: the export of a run, or the folder or Hub id that was given.

    Raises:
        ConfigError: the run has not been exported yet, or is none of those in the folder that is named.
    """
    run = RunFolder(Path(source))
    if not run.path.exists() and (others := _runs_beside(run.path)):
        # As a Hub id it would be looked up, again and again where there is no network.
        raise ConfigError(f"there is no run {source}: {run.path.parent} holds {', '.join(others)}")
    if not run.is_run():
        return source
    if not run.export.is_dir() and run.is_finetuning():
        raise ConfigError(f"{source} is not finished: run its own bertkit finetune command again")
    if not run.export.is_dir():
        raise ConfigError(f"{source} is a run without an export: make one with bertkit export {source}")
    return str(run.export)


def open_bert_config(source: str) -> Any:
    """The config of a BERT.

    Raises:
        ConfigError: there is none, or it is of another family; says what to give.
    """
    try:
        config = AutoConfig.from_pretrained(bert_folder(source))
    except (OSError, ValueError) as error:
        raise ConfigError(_cannot_open(source, error)) from error
    if config.model_type not in ("bert", BertKitConfig.model_type):
        raise ConfigError(f"--from {source} is a '{config.model_type}' model: only BERT can be fine-tuned here")
    return config


def load_with_head(
    settings: FinetuneModelConfig, problem: Problem, labels: Sequence[str], *, seed: int
) -> PreTrainedModel:
    """The model of `settings.init_from` in float32 with a head for `problem`, drawn from `seed` where it is new.

    Raises:
        ConfigError: the model cannot be opened, or has fewer layers than are to begin anew.
    """
    source = settings.init_from
    dropouts = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    given = {name: getattr(settings, name) for name in dropouts if getattr(settings, name) is not None}
    torch.manual_seed(seed)
    try:
        loaded: Any = problem.model_class.from_pretrained(
            bert_folder(source),
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # another task's head has another number of classes
            **given,
            **head_fields(problem.name, labels),
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ConfigError(_cannot_open(source, error)) from error
    model: PreTrainedModel = loaded[0]
    missing = [name for name in loaded[1]["missing_keys"] if name.startswith("bert.") and ".pooler." not in name]
    if missing:
        raise ConfigError(f"--from {source} lacks {len(missing)} of the encoder's weights, such as {missing[0]}")
    _reinit_top(model, settings.reinit_layers)
    return model


def head_fields(problem: str, labels: Sequence[str]) -> dict[str, Any]:
    """What transformers wants to know of a head: label names by id, and which loss its own training would take."""
    if problem == "span_qa":
        return {"num_labels": 2}
    if problem == "multiple_choice":
        return {}
    names = ["score"] if problem == "regression" else list(labels)
    fields: dict[str, Any] = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    if problem in _HF_PROBLEM_TYPES:
        fields["problem_type"] = _HF_PROBLEM_TYPES[problem]
    return fields


def freeze(model: nn.Module, what: str) -> None:
    """Leaves 'embeddings', or the whole 'encoder' but not its pooler, out of training; 'none': nothing."""
    frozen = {"none": (), "embeddings": ("bert.embeddings.",), "encoder": ("bert.embeddings.", "bert.layers.")}[what]
    for name, parameter in model.named_parameters():
        if name.startswith(frozen) and frozen:
            parameter.requires_grad_(False)


def add_lora(model: PreTrainedModel, lora: LoraConfig, *, seed: int) -> nn.Module:
    """The model with low-rank adapters on every matrix of its layers; only they, the pooler and the head are trained.

    Raises:
        ConfigError: peft is not installed.
    """
    if find_spec("peft") is None:
        raise ConfigError("model.lora needs peft, which is not installed: pip install 'bertkit[lora]'")
    import peft

    torch.manual_seed(seed)
    inside = [name for name, module in model.bert.layers.named_modules() if isinstance(module, nn.Linear)]  # type: ignore[union-attr]
    whole = [name for name, child in model.named_children() if isinstance(child, nn.Linear)]
    if getattr(model.bert, "pooler", None) is not None:
        whole.append("pooler")
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=[f"bert.layers.{name}" for name in inside],
        modules_to_save=whole,
    )
    adapted: nn.Module = peft.get_peft_model(model, config)
    return adapted


def merged(model: nn.Module) -> PreTrainedModel:
    """The plain model with its adapters, if any, merged into its weights."""
    merge = getattr(model, "merge_and_unload", None)
    plain: Any = model if merge is None else merge()
    return cast("PreTrainedModel", plain)


def layer_scale(num_layers: int, decay: float) -> Callable[[str], float]:
    """By a parameter's name, its learning rate over the head's: `decay` once for every layer between them."""

    def scale(name: str) -> float:
        parts = name.split(".")
        if "layers" in parts:
            below = num_layers - int(parts[parts.index("layers") + 1])
        else:
            below = num_layers + 1 if "embeddings" in parts else 0
        return float(decay**below)

    return scale


def _reinit_top(model: PreTrainedModel, num_layers: int) -> None:
    if not num_layers:
        return
    layers: Any = model.bert.layers  # type: ignore[union-attr]
    if num_layers > len(layers):
        raise ConfigError(f"model.reinit_layers {num_layers} exceeds the model's {len(layers)} layers: lower it")
    anew = [*layers[-num_layers:], *filter(None, [getattr(model.bert, "pooler", None)])]
    for module in (inner for outer in anew for inner in outer.modules()):
        for parameter in module.parameters(recurse=False):
            parameter._is_hf_initialized = False
        module._is_hf_initialized = False
        model._init_weights(module)


def _runs_beside(path: Path) -> list[str]:
    """Names of the runs in the folder that `path` would lie in, the newest first; the working folder's do not count."""
    if path.parent == Path() or not path.parent.is_dir():
        return []
    runs = [each for each in path.parent.iterdir() if RunFolder(each).is_run()]
    newest = sorted(runs, key=lambda run: RunFolder(run).config_file.stat().st_mtime, reverse=True)
    return [run.name for run in newest[:_RUNS_NAMED]] + ["..."] * (len(newest) > _RUNS_NAMED)


def _cannot_open(source: str, error: Exception) -> str:
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return f"--from {source} cannot be opened: give a BERT's folder, a run or a Hub id ({reason})"
