"""Tiny models and batches, small enough to check by eye."""

import pytest
import torch
from torch import Tensor

from bertkit.model import BertKitConfig

PADDED_LENGTHS = (7, 3, 5)


@pytest.fixture
def tiny_config() -> BertKitConfig:
    """Two layers of sixteen, no dropout, so that two forwards agree."""
    return BertKitConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        num_labels=3,
        initializer_range=0.5,
    )


@pytest.fixture
def padded() -> dict[str, Tensor]:
    """Three rows of 7, 3 and 5 tokens."""
    generator = torch.Generator().manual_seed(0)
    mask_BS = (torch.arange(7) < torch.tensor(PADDED_LENGTHS)[:, None]).long()
    return {
        "input_ids": torch.randint(5, 40, (3, 7), generator=generator) * mask_BS,
        "token_type_ids": torch.randint(0, 2, (3, 7), generator=generator) * mask_BS,
        "attention_mask": mask_BS,
    }


@pytest.fixture
def packed(padded: dict[str, Tensor]) -> dict[str, Tensor | int]:
    """The same fifteen tokens without padding."""
    keep = padded["attention_mask"].bool()
    return {
        "input_ids": padded["input_ids"][keep],
        "token_type_ids": padded["token_type_ids"][keep],
        "cu_seqlens": torch.tensor([0, 7, 10, 15], dtype=torch.int32),
        "max_seqlen": 7,
    }
