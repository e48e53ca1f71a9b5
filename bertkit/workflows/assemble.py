"""A config and a token store become the parts of a run: model, state, loader, budget. Config stops here."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from bertkit.config.schema import Direction, PretrainConfig
from bertkit.data.collate import DataCollatorForPretraining, Predicts
from bertkit.data.instances import PairRule
from bertkit.data.loader import Batching, PretrainingLoader
from bertkit.data.store import TokenStore
from bertkit.data.vocabulary import Vocabulary
from bertkit.errors import ConfigError
from bertkit.model import pretraining_correct, pretraining_counts, pretraining_losses
from bertkit.model.families import config_from
from bertkit.train.budget import Budget
from bertkit.train.loop import Batch, LossTerm
from bertkit.workflows.initial import check_initial_tokenizer, direction_fields, load_initial, model_class

# Rows of the vocabulary projection are rounded up to a multiple of this, which matrix kernels like.
VOCABULARY_MULTIPLE = 8
_WORDS = ("labels", "lm_labels")
_TARGETS = (*_WORDS, "next_sentence_label")
_PREDICTS: Mapping[Direction, Predicts] = {"bidirectional": "masked", "left-to-right": "next", "bilm": "neighbours"}


def build_new_model(config: PretrainConfig, vocabulary: Vocabulary) -> PreTrainedModel:
    """The model to pre-train, with weights from `train.seed` or from `train.init_from`.

    Raises:
        ConfigError: the vocabulary is larger than the model's, or not the initial model's.
    """
    if config.train.init_from is not None:
        check_initial_tokenizer(config, vocabulary)
        model = load_initial(config)
        if vocabulary.size > model.config.vocab_size:
            raise ConfigError(
                f"the tokenizer of --from {config.train.init_from} has {vocabulary.size} entries and its model "
                f"{model.config.vocab_size}: they do not belong together"
            )
        return model
    torch.manual_seed(config.train.seed)
    return model_class(config)(build_model_config(config, vocabulary))


def build_model_config(config: PretrainConfig, vocabulary: Vocabulary) -> PreTrainedConfig:
    """The architecture for a config's shape and objective, and a vocabulary."""
    values = config.model.model_dump()
    if values["vocab_size"] is None:
        values["vocab_size"] = -(-vocabulary.size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    elif values["vocab_size"] < vocabulary.size:
        raise ConfigError(
            f"the tokenizer has {vocabulary.size} entries and model.vocab_size is {values['vocab_size']}: raise it, or "
            "leave it null to follow the tokenizer"
        )
    return config_from({**values, **direction_fields(config), "pad_token_id": vocabulary.pad_id})


def pretraining_terms(model: nn.Module, batch: Batch) -> dict[str, LossTerm]:
    """Words and next sentence prediction of one packed micro-batch, as sums, counts and right predictions."""
    inputs = {name: value for name, value in batch.items() if name not in _TARGETS}
    outputs = model(**inputs, masked_labels=word_labels(batch))
    correct = pretraining_correct(outputs, batch)
    return {
        name: LossTerm(total, count, correct[name][0])
        for name, (total, count) in pretraining_losses(outputs, batch).items()
    }


def word_labels(batch: Batch) -> torch.Tensor:
    """The words that a micro-batch asks for, masked or not: [M]."""
    labels: torch.Tensor = next(batch[name] for name in _WORDS if name in batch)
    return labels


def pretraining_target_counts(batch: Batch) -> dict[str, int]:
    """The targets of each loss term of a micro-batch that is still on the host."""
    return {name: int(count) for name, count in pretraining_counts(batch).items()}


def run_budget(config: PretrainConfig, store: TokenStore) -> Budget:
    """The length of the run; epochs become steps by counting each phase's instances."""
    train = config.train
    shares = tuple(phase.share for phase in train.phases)
    if train.max_minutes is not None:
        return Budget(shares, max_seconds=train.max_minutes * 60)
    if train.epochs is None:
        return Budget(shares, max_steps=train.max_steps)
    loaders = [build_loader(config, store, phase=phase) for phase in range(len(shares))]
    epochs_a_step = sum(
        share * train.global_batch_size / max(1, loader.num_instances())
        for share, loader in zip(shares, loaders, strict=True)
    )
    return Budget(shares, max_steps=max(len(shares), round(train.epochs / epochs_a_step)))


def what_is_predicted(config: PretrainConfig) -> Predicts:
    """Which words the batches of a config's objective ask for."""
    return _PREDICTS[config.direction]


class Place(Protocol):
    """Which of how many processes this is, as an `Accelerator` says."""

    @property
    def process_index(self) -> int: ...
    @property
    def num_processes(self) -> int: ...


def build_loader(
    config: PretrainConfig, store: TokenStore, *, phase: int, accelerator: Place | None = None
) -> PretrainingLoader:
    """The training batches of one phase, this process's share of them."""
    rule = PairRule(
        max_seq_length=config.train.phases[phase].max_seq_length,
        next_sentence=config.pairs.next_sentence,
        random_next_probability=config.pairs.random_next_probability,
        short_seq_probability=config.pairs.short_seq_probability,
    )
    masking = config.masking
    collator = DataCollatorForPretraining(
        store.vocabulary,
        packed=True,
        predicts=what_is_predicted(config),
        mlm_probability=masking.mlm_probability,
        mask_share=masking.mask_share,
        random_share=masking.random_share,
        whole_word=masking.whole_word,
    )
    return PretrainingLoader(
        store.split("train"),
        store.vocabulary,
        rule,
        collator=collator,
        seed=config.train.seed,
        batching=Batching(
            config.train.global_batch_size,
            config.train.micro_batch_of(phase),
            rank=accelerator.process_index if accelerator else 0,
            num_processes=accelerator.num_processes if accelerator else 1,
        ),
    )
