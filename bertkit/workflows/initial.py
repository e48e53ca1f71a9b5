"""Going on from an existing BERT: its shape, its weights, and that the text was cut by its tokenizer."""

import logging
from typing import Any

import torch
from transformers import PreTrainedModel

from bertkit.config.schema import ModelConfig, PretrainConfig
from bertkit.data.tokenizer import load_tokenizer
from bertkit.data.vocabulary import Vocabulary
from bertkit.errors import ConfigError
from bertkit.model import BertKitConfig, BertKitForCausalLM, BertKitForMaskedLM, BertKitForPreTraining
from bertkit.model.families import BILM, class_for
from bertkit.workflows.source import bert_folder, direction_of, open_bert_config, opening

logger = logging.getLogger(__name__)


def model_class(config: PretrainConfig) -> type[PreTrainedModel]:
    """The class that has exactly the heads the config trains."""
    if config.direction == "bilm":
        return class_for(BILM, BertKitForPreTraining)
    if config.pairs.next_sentence != "off":
        return BertKitForPreTraining
    return BertKitForMaskedLM if config.direction == "bidirectional" else BertKitForCausalLM


def direction_fields(config: PretrainConfig) -> dict[str, Any]:
    """What the model's own config says of the direction of its objective, and which family that makes it."""
    if config.direction == "bilm":
        return {"model_type": BILM, "bilstm": None}
    # Of a text read from the left, only the last token has seen everything.
    is_decoder = config.direction == "left-to-right"
    fields = {"is_decoder": is_decoder, "pooled_token": "last" if is_decoder else "first"}
    # What a fine-tuned model had above its encoder is no part of this one.
    return {"model_type": BertKitConfig.model_type, "bilstm": None, **fields}


def with_initial_shape(config: PretrainConfig) -> PretrainConfig:
    """The config with `model` and the tokenizer of `train.init_from`, so that what is written down is what runs.

    Raises:
        ConfigError: `train.init_from` is not a BERT that can be opened, or is too short for the phases.
    """
    source = config.train.init_from
    if source is None:
        return config
    initial = open_bert_config(source)
    longest = max(phase.max_seq_length for phase in config.train.phases)
    if longest > initial.max_position_embeddings:
        raise ConfigError(
            f"train.phases max_seq_length {longest} exceeds the {initial.max_position_embeddings} positions of "
            f"--from {source}: lower the first"
        )
    if (initial.model_type == BILM) != (config.direction == "bilm"):
        raise ConfigError(
            f"--from {source} is a '{initial.model_type}' model, which objective {config.objective} does not train: "
            "choose another objective, or leave out --from"
        )
    if direction_of(initial) != config.direction:
        logger.warning(
            "--from %s is %s and goes on %s: objective %s keeps it as it is",
            source,
            direction_of(initial),
            config.direction,
            "ltr" if direction_of(initial) == "left-to-right" else "mlm",
        )
    kept = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    shape = {
        name: getattr(initial, name, getattr(config.model, name))
        for name in ModelConfig.model_fields
        if name not in kept
    }
    tokenizer = config.data.tokenizer
    if tokenizer.path is None:
        tokenizer = tokenizer.model_copy(update={"path": bert_folder(source)})
    data = config.data.model_copy(update={"tokenizer": tokenizer})
    return config.model_copy(update={"model": config.model.model_copy(update=shape), "data": data})


def load_initial(config: PretrainConfig) -> PreTrainedModel:
    """The model of `train.init_from` in float32, its missing heads new and named in a warning.

    Raises:
        ConfigError: the weights are missing or damaged.
    """
    source = str(config.train.init_from)
    torch.manual_seed(config.train.seed)
    folder = bert_folder(source)
    fields = {name: value for name, value in direction_fields(config).items() if name != "model_type"}
    with opening(source):
        loaded: Any = model_class(config).from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, **_dropouts(config), **fields
        )
    model: PreTrainedModel = loaded[0]
    found = loaded[1]
    heads = sorted({name.split(".")[0] for name in found["missing_keys"] if not name.startswith("bert.")})
    if heads:
        logger.warning("--from %s has no weights for %s, which begin anew", source, " and ".join(heads))
    return model


def check_initial_tokenizer(config: PretrainConfig, vocabulary: Vocabulary) -> None:
    """Makes sure that the ids of the store mean the words of the initial model.

    Raises:
        ConfigError: the store was made with another vocabulary.
    """
    source = bert_folder(str(config.train.init_from))
    if load_tokenizer(source).vocabulary.pieces != vocabulary.pieces:
        raise ConfigError(
            f"the text was tokenised with another vocabulary than that of --from {source}: prepare it with "
            f"--set data.tokenizer.path={source}"
        )


def _dropouts(config: PretrainConfig) -> dict[str, Any]:
    dropouts: dict[str, Any] = {"hidden_dropout_prob": config.model.hidden_dropout_prob}
    if config.direction != "bilm":
        dropouts["attention_probs_dropout_prob"] = config.model.attention_probs_dropout_prob
    return dropouts
