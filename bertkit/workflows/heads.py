"""From a pre-trained BERT to the model that is fine-tuned: a new head, and what else begins anew or stays as it is."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from bertkit.config.finetune import BiLSTMConfig, FinetuneModelConfig, LoraConfig
from bertkit.errors import ConfigError
from bertkit.installed import is_installed
from bertkit.model.families import class_for
from bertkit.model.layer_mix import mix_layers
from bertkit.tasks.problem import Problem
from bertkit.workflows.source import bert_folder, direction_of, open_bert_config, opening

_HF_PROBLEM_TYPES = {
    "classification": "single_label_classification",
    "regression": "regression",
    "multi_label": "multi_label_classification",
}


def load_with_head(
    settings: FinetuneModelConfig, problem: Problem, labels: Sequence[str], *, seed: int
) -> PreTrainedModel:
    """The model of `settings.init_from` in float32 with a head for `problem`, drawn from `seed` where it is new.

    The class of the model is of the family of what is opened.

    Raises:
        ConfigError: the model cannot be opened, or has not what `settings` change.
    """
    source = settings.init_from
    initial = open_bert_config(source)
    require_fitting(settings, initial)
    model_class: Any = class_for(initial, problem.model_class)
    torch.manual_seed(seed)
    folder = bert_folder(source)
    with opening(source):
        loaded = model_class.from_pretrained(
            folder,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # another task's head has another number of classes
            **_changed_fields(settings, initial),
            **head_fields(problem.name, labels),
        )
    model: PreTrainedModel = loaded[0]
    missing = [name for name in loaded[1]["missing_keys"] if name.startswith("bert.") and ".pooler." not in name]
    if missing:
        raise ConfigError(f"--from {source} lacks {len(missing)} of the encoder's weights, such as {missing[0]}")
    _reinit_top(model, settings.reinit_layers)
    return model


def require_fitting(settings: FinetuneModelConfig, initial: PreTrainedConfig) -> None:
    """Make sure that a model of the config `initial` has what `settings` change in it.

    Raises:
        ConfigError: it has fewer layers, or none with attention.
    """
    num_layers = initial.num_hidden_layers
    if settings.reinit_layers > num_layers:
        raise ConfigError(
            f"model.reinit_layers {settings.reinit_layers} exceeds the model's {num_layers} layers: lower it"
        )
    if settings.bilstm is not None:
        try:
            mix_layers([torch.zeros(1, 1)] * (num_layers + 1), settings.bilstm.layers)
        except ValueError as error:
            raise ConfigError(f"model.bilstm.layers {error}: choose others") from error
    if direction_of(initial) == "bilm":
        if settings.lora is not None:
            raise ConfigError("model.lora adapts a Transformer's matrices and the biLM has none: set it to null")
        if settings.attention_probs_dropout_prob:
            raise ConfigError("model.attention_probs_dropout_prob: the biLM has no attention: set it to null")


def _changed_fields(settings: FinetuneModelConfig, initial: Any) -> dict[str, Any]:
    """What the model's config says otherwise than that of what it is made from."""
    dropouts = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
    fields = {name: getattr(settings, name) for name in dropouts if getattr(settings, name) is not None}
    if settings.is_feature_based:
        fields = {"classifier_dropout": _head_dropout(settings, initial)} | dict.fromkeys(dropouts[:2], 0.0)
    direction = direction_of(initial)
    if direction == "bilm":
        fields.pop("attention_probs_dropout_prob", None)
    if direction == "left-to-right":
        # The first token has seen nothing but itself.
        fields["pooled_token"] = "last"
    # An earlier head's reader is not this one's.
    return fields | {
        "bilstm": None if settings.bilstm is None else settings.bilstm.model_dump(exclude={"learning_rate"})
    }


def _head_dropout(settings: FinetuneModelConfig, initial: Any) -> float:
    """The dropout that the head would have on an encoder that is fine-tuned."""
    ways = (
        settings.classifier_dropout,
        getattr(initial, "classifier_dropout", None),
        settings.hidden_dropout_prob,
        initial.hidden_dropout_prob,
    )
    return float(next(way for way in ways if way is not None))


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
    for name, parameter in model.named_parameters():
        is_embedding = name.startswith("bert.embeddings.")
        is_encoder = name.startswith("bert.") and not name.startswith("bert.pooler.")
        if {"none": False, "embeddings": is_embedding, "encoder": is_encoder}[what]:
            parameter.requires_grad_(False)


def freeze_unread(model: PreTrainedModel, bilstm: BiLSTMConfig) -> None:
    """Leaves the layers above those that a BiLSTM reads out of training: no gradient comes to them."""
    layers: Any = model.bert.layers  # type: ignore[union-attr]
    num_read = {"embeddings": 0, "second-to-last": len(layers) - 1}.get(bilstm.layers, len(layers))
    layers[num_read:].requires_grad_(False)


def learned_shares(model: PreTrainedModel) -> dict[str, float] | None:
    """The share of each layer in what a BiLSTM reads, adding up to 1; None where it learned none."""
    reader: Any = getattr(model, "reader", None)
    if reader is None or reader.mix.weights_K is None:
        return None
    shares_K = reader.mix.weights_K.detach().softmax(0)
    return {f"layer {number}": share for number, share in enumerate(shares_K.tolist(), 1)}


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


def with_bilstm_scale(scale: Callable[[str], float], ratio: float) -> Callable[[str], float]:
    """`scale`, and for a BiLSTM, whose weights are new, `ratio`."""
    return lambda name: ratio if name.startswith("reader.") else scale(name)


def layer_scale(num_layers: int, decay: float) -> Callable[[str], float]:
    """By a parameter's name, its learning rate over the head's: `decay` once for every layer between them."""

    def scale(name: str) -> float:
        parts = name.split(".")
        # A BiLSTM above the encoder is trained as the head is.
        if "layers" in parts and "bert" in parts:
            below = num_layers - int(parts[parts.index("layers") + 1])
        else:
            below = num_layers + 1 if "embeddings" in parts else 0
        return float(decay**below)

    return scale


def _reinit_top(model: PreTrainedModel, num_layers: int) -> None:
    if not num_layers:
        return
    layers: Any = model.bert.layers  # type: ignore[union-attr]
    anew = [*layers[-num_layers:], *filter(None, [getattr(model.bert, "pooler", None)])]
    for module in (inner for outer in anew for inner in outer.modules()):
        for parameter in module.parameters(recurse=False):
            parameter._is_hf_initialized = False
        module._is_hf_initialized = False
        model._init_weights(module)
