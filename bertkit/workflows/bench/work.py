"""What both sides of a training comparison are given: the same shape, the same instances, the same settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from bertkit.config.leaves import TokenBudget
from bertkit.config.schema import PretrainConfig
from bertkit.data.feature_loader import FeatureLoader
from bertkit.data.features import Features
from bertkit.data.loader import Batching, PretrainingLoader
from bertkit.data.vocabulary import Vocabulary
from bertkit.model import BertKitConfig, BertKitForSequenceClassification
from bertkit.tasks.classification import CLASSIFICATION
from bertkit.train.loop import Batch, LossTerm
from bertkit.workflows.assemble import (
    build_loader,
    build_model_config,
    build_new_model,
    pretraining_target_counts,
    pretraining_terms,
)
from bertkit.workflows.bench.rates import Sizes, classification_flops, pretraining_flops
from bertkit.workflows.bench.request import device_type
from bertkit.workflows.pinned import open_store
from bertkit.workflows.training import Loader, tokens_a_pass

CLASSES = 3


class TrainingWork(Protocol):
    """One kind of training, as it is handed to a side's process."""

    @property
    def config(self) -> PretrainConfig: ...
    @property
    def micro_batch_tokens(self) -> TokenBudget: ...
    @property
    def stock_batch_size(self) -> int: ...
    @property
    def tokens_a_pass(self) -> int: ...
    def loader(self) -> Loader: ...
    def our_model(self) -> PreTrainedModel: ...
    def stock_model(self) -> PreTrainedModel: ...
    def terms(self, model: nn.Module, batch: Batch) -> Mapping[str, LossTerm]: ...
    def target_counts(self, batch: Batch) -> Mapping[str, int]: ...
    def flops(self, sizes: Sizes) -> float: ...


@dataclass(frozen=True)
class Rank:
    """One process of so many."""

    process_index: int = 0
    num_processes: int = 1


@dataclass(frozen=True)
class PretrainingWork:
    """Masked LM and next sentence prediction on a token store, in one phase of a recipe; a rank's part of it."""

    config: PretrainConfig
    store: str
    phase: int
    rank: Rank = Rank()

    @property
    def micro_batch_tokens(self) -> TokenBudget:
        """Tokens of our forward passes."""
        return self.config.train.micro_batch_tokens_of(self.phase)

    @property
    def stock_batch_size(self) -> int:
        """Instances of a forward pass of theirs."""
        train = self.config.train
        return whole_part(
            train.global_batch_size,
            size=train.micro_batch_of(self.phase),
            tokens=self.micro_batch_tokens,
            length=train.phases[self.phase].max_seq_length,
        )

    @property
    def tokens_a_pass(self) -> int:
        """Tokens of such a pass, at the most."""
        return self.stock_batch_size * self.config.train.phases[self.phase].max_seq_length

    def loader(self) -> PretrainingLoader:
        """The loader of a real run."""
        store = open_store(self.store, self.config.data)
        return build_loader(self.config, store, phase=self.phase, accelerator=self.rank)

    def our_model(self) -> PreTrainedModel:
        """The model of a real run."""
        return build_new_model(self.config, self._vocabulary)

    def stock_model(self) -> PreTrainedModel:
        """transformers' BERT of the same shape."""
        from transformers import BertForMaskedLM, BertForPreTraining

        torch.manual_seed(self.config.train.seed)
        return (BertForPreTraining if self._has_pairs else BertForMaskedLM)(stock_config(self.shape()))

    def terms(self, model: nn.Module, batch: Batch) -> Mapping[str, LossTerm]:
        """The losses of a real run."""
        return pretraining_terms(model, batch)

    def target_counts(self, batch: Batch) -> Mapping[str, int]:
        """Targets of each loss."""
        return pretraining_target_counts(batch)

    def flops(self, sizes: Sizes) -> float:
        """Model FLOPs of a forward and backward."""
        return pretraining_flops(
            self.config.model, sizes, vocab_size=self.shape().vocab_size, has_pairs=self._has_pairs
        )

    def shape(self) -> PreTrainedConfig:
        """The model's shape."""
        return build_model_config(self.config, self._vocabulary)

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return open_store(self.store, self.config.data).vocabulary

    @property
    def _has_pairs(self) -> bool:
        return self.config.pairs.next_sentence != "off"


@dataclass(frozen=True)
class FinetuningWork:
    """Classification of encoded examples by a model of a recipe's shape, its weights new: only speed is looked at."""

    config: PretrainConfig
    features: Features
    vocab_size: int

    @property
    def micro_batch_tokens(self) -> TokenBudget:
        """Tokens of our forward passes."""
        return self.config.train.micro_batch_tokens

    @property
    def stock_batch_size(self) -> int:
        """Examples of a forward pass of theirs."""
        train = self.config.train
        length = int(self.features.lengths.max())
        return whole_part(
            train.global_batch_size, size=train.micro_batch_size, tokens=self.micro_batch_tokens, length=length
        )

    @property
    def tokens_a_pass(self) -> int:
        """Tokens of such a pass, on average."""
        return int(self.stock_batch_size * self.features.lengths.mean())

    def loader(self) -> Loader:
        """The loader of a real run."""
        train = self.config.train
        batching = Batching(train.global_batch_size, train.micro_batch_size)
        return FeatureLoader(self.features, seed=train.seed, batching=batching)

    def our_model(self) -> PreTrainedModel:
        """bertkit's classifier."""
        torch.manual_seed(self.config.train.seed)
        return BertKitForSequenceClassification(self._shape())

    def stock_model(self) -> PreTrainedModel:
        """transformers' classifier of the same shape."""
        from transformers import BertForSequenceClassification

        torch.manual_seed(self.config.train.seed)
        return BertForSequenceClassification(stock_config(self._shape()))

    def terms(self, model: nn.Module, batch: Batch) -> Mapping[str, LossTerm]:
        """The loss of a real run."""
        return CLASSIFICATION.loss_terms(model, batch)

    def target_counts(self, batch: Batch) -> Mapping[str, int]:
        """Targets of the loss."""
        return CLASSIFICATION.target_counts(batch)

    def flops(self, sizes: Sizes) -> float:
        """Model FLOPs of a forward and backward."""
        return classification_flops(self.config.model, sizes, num_labels=CLASSES, trains=True)

    def _shape(self) -> BertKitConfig:
        shape = BertKitConfig(**self.config.model.model_dump() | {"vocab_size": self.vocab_size})
        shape.num_labels = CLASSES
        return shape


def stock_config(shape: PreTrainedConfig) -> Any:
    """The same shape, as transformers' own BERT takes it."""
    from transformers import BertConfig

    fields = shape.to_dict()
    return BertConfig(**{name: value for name, value in fields.items() if name not in ("model_type", "architectures")})


def whole_part(batch_size: int, *, size: int | None, tokens: TokenBudget, length: int) -> int:
    """The most instances of one forward pass that divide `batch_size` and keep to our bounds, padding counted.

    size, tokens: what bounds our own passes. length: of the longest instance.
    """
    bound = min(batch_size, size or batch_size)
    limit = tokens_a_pass(tokens, torch.device(device_type()))
    if limit is not None:
        bound = min(bound, max(1, limit // length))
    return next(each for each in range(bound, 0, -1) if batch_size % each == 0)
