"""Texts as word pieces, and the rows that an encoder takes: [CLS] A [SEP] B [SEP]."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertkit.data.features import Array
from bertkit.data.tokenizer import LoadedTokenizer


@dataclass(frozen=True)
class Pieces:
    """The word pieces of one text: ids [T] and, where asked for, the characters [T, 2] each stands for."""

    ids: Array
    offsets: Array | None = None

    def __len__(self) -> int:
        return len(self.ids)


class TextEncoder:
    """Encodes texts with a BERT tokenizer; special tokens inside a text are ordinary letters."""

    def __init__(self, tokenizer: LoadedTokenizer) -> None:
        self._engine: Any = tokenizer.engine
        vocabulary = tokenizer.vocabulary
        self.cls_id, self.sep_id, self.unk_id = vocabulary.cls_id, vocabulary.sep_id, vocabulary.unk_id

    def encode(self, texts: Sequence[str], *, with_offsets: bool = False) -> list[Pieces]:
        """The pieces of every text, without special tokens; all cores at once."""
        if with_offsets:
            encoded = self._engine.encode_batch(list(texts), add_special_tokens=False)
            return [Pieces(_ids(e), np.array(e.offsets, np.int32).reshape(-1, 2)) for e in encoded]
        return [Pieces(_ids(e)) for e in self._engine.encode_batch_fast(list(texts), add_special_tokens=False)]

    def row(self, first: Array, second: Array | None = None) -> tuple[Array, int]:
        """[CLS] first [SEP], or [CLS] first [SEP] second [SEP]; and where segment B starts."""
        parts: list[Any] = [[self.cls_id], first, [self.sep_id]]
        if second is None:
            return np.concatenate(parts), len(first) + 2
        return np.concatenate([*parts, second, [self.sep_id]]), len(first) + 2


def cut_pair(first: int, second: int, *, room: int) -> tuple[int, int]:
    """How many pieces of two texts stay in `room`: the longer one gives way, piece by piece (google-research/bert)."""
    over = first + second - room
    if over <= 0:
        return first, second
    longer, shorter = max(first, second), min(first, second)
    levelled = min(over, longer - shorter)
    longer, over = longer - levelled, over - levelled
    # Equal by now: the second gives way first.
    one, two = (longer, shorter) if first > second else (shorter, longer)
    return one - over // 2, two - (over - over // 2)


def _ids(encoding: Any) -> Array:
    return np.array(encoding.ids, dtype=np.int32)
