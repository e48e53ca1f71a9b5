"""From a pre-trained BERT to the model that is fine-tuned: a new head, and what else begins anew or stays as it is."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from bertkit.config.finetune import FinetuneModelConfig, LoraConfig
from bertkit.errors import ConfigError
from bertkit.installed import is_installed
from bertkit.tasks.problem import Problem
from bertkit.workflows.source import bert_folder, opening

_HF_PROBLEM_TYPES = {
    "classification": "single_label_classification",
    "regression": "regression",
    "multi_label": "multi_label_classification",
}


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
    folder = bert_folder(source)
    with opening(source):
        loaded: Any = problem.model_class.from_pretrained(
            folder,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # another task's head has another number of classes
            **given,
            **head_fields(problem.name, labels),
        )
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
        if name.startswith(frozen):
            parameter.requires_grad_(False)


def add_lora(model: PreTrainedModel, lora: LoraConfig, *, seed: int) -> nn.Module:
    """The model with low-rank adapters on every matrix of its layers; only they, the pooler and the head are trained.

    Raises:
        ConfigError: peft is not installed.
    """
    if not is_installed("peft"):
        raise ConfigError("model.lora needs peft, which is not installed: pip install peft")
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
