"""Instances out of the token store: `[CLS] A [SEP] B [SEP]`, each a pure function of (store, seed, epoch, index).

Letters: S sentences, D documents, T tokens of one instance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from bertkit.data.pairs import Ints, NextSentence, PairIndex, draw_pairs
from bertkit.data.store import Shard
from bertkit.data.vocabulary import Vocabulary

# What a random stream is for is the last word of its key, so that no two purposes share one; never 0, because numpy
# pads keys with zeros.
_PAIRS, _ORDER, _CUT, _MASKS = 1, 2, 3, 4
# Files of one block that are mapped at a time; a block of ordinary shards holds about a hundred.
OPEN_SHARDS = 256


@dataclass(frozen=True)
class PairRule:
    """How instances are drawn: their longest length in tokens, and what the second segment is."""

    max_seq_length: int
    next_sentence: NextSentence = "nsp"
    random_next_probability: float = 0.5
    short_seq_probability: float = 0.1


@dataclass(frozen=True)
class Block:
    """Some shards of a store, read as one run of sentences: what is shuffled together and held in memory at once.

    Only where sentences and documents begin is in memory; tokens are read from the files, few of them open at a time.
    """

    shards: tuple[Shard, ...]
    number: int = 0

    @property
    def sentence_lengths_S(self) -> Ints:
        """Tokens of every sentence, [S]."""
        return np.diff(self.token_offsets)

    @property
    def num_sentences(self) -> int:
        """Number of sentences."""
        return len(self.token_offsets) - 1

    @property
    def token_offsets(self) -> Ints:
        """First token of every sentence, and the number of tokens: [S + 1]."""
        return self._outline.token_offsets

    @property
    def document_offsets(self) -> Ints:
        """First sentence of every document, and the number of sentences: [D + 1]."""
        return self._outline.document_offsets

    def tokens_of(self, start: int, stop: int) -> Ints:
        """The ids of sentences [start, stop), which lie in one document and so in one shard."""
        shard, first, last = self._locate(start, stop)
        return shard.tokens[first:last].astype(np.int64)

    def word_starts_of(self, start: int, stop: int) -> "np.ndarray[Any, np.dtype[np.bool_]] | None":
        """Whether each token of sentences [start, stop) begins a word, where the store knows it."""
        shard, first, last = self._locate(start, stop)
        return None if shard.word_starts is None else shard.word_starts[first:last]

    def _locate(self, start: int, stop: int) -> tuple[Shard, int, int]:
        number = int(np.searchsorted(self._outline.first_sentence, start, side="right")) - 1
        base = self.token_offsets[self._outline.first_sentence[number]]
        first, last = self.token_offsets[start] - base, self.token_offsets[stop] - base
        return self._opened(number), int(first), int(last)

    @cached_property
    def _outline(self) -> "_Outline":
        return _Outline.of(self.shards)

    @cached_property
    def _opened(self) -> Callable[[int], Shard]:
        # No reference to the block: what is open is closed with it, not when garbage is collected.
        shards = self.shards
        return lru_cache(maxsize=OPEN_SHARDS)(lambda number: shards[number].reopened())


@dataclass(frozen=True)
class _Outline:
    """Where everything begins in some shards: tokens [S + 1], documents [D + 1], shards [shards + 1] in sentences."""

    token_offsets: Ints
    document_offsets: Ints
    first_sentence: Ints

    @classmethod
    def of(cls, shards: Sequence[Shard]) -> "_Outline":
        """Reads one shard after the other and lets go of it."""
        lengths, documents, first_sentence = [], [], [0]
        for shard in shards:
            opened = shard.reopened()
            lengths.append(np.diff(opened.sentence_offsets))
            documents.append(opened.document_offsets[:-1] + first_sentence[-1])
            first_sentence.append(first_sentence[-1] + len(lengths[-1]))
        token_offsets = np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), *lengths]))
        document_offsets = np.concatenate([*documents, np.array(first_sentence[-1:])])
        return cls(token_offsets, document_offsets, np.array(first_sentence))


@dataclass(frozen=True)
class BlockEpoch:
    """The instances of one block in one epoch, in their shuffled order; build with `draw_block`."""

    block: Block
    pairs: PairIndex
    order: Ints
    rule: PairRule
    vocabulary: Vocabulary
    key: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> dict[str, Any]:
        """The instance at `place` of the shuffled order, with the `key` of the random stream that masks it.

        `input_ids` and `token_type_ids` [T], `word_starts` [T] where the store has them, and `next_sentence_label`
        (0 B follows A, 1 it does not, -100 no B) unless next sentence prediction is off.
        """
        number = int(self.order[place])
        key = (*self.key, number)
        a = (int(self.pairs.a_start[number]), int(self.pairs.a_stop[number]))
        b = (int(self.pairs.b_start[number]), int(self.pairs.b_stop[number]))
        segments = [a, b] if b[0] < b[1] else [a]
        cuts = _fit(
            [self._num_tokens(segment) for segment in segments],
            self.rule.max_seq_length - 1 - len(segments),
            key=(*key, _CUT),
        )
        instance = self._assemble(segments, cuts) | {"key": (*key, _MASKS)}
        if self.rule.next_sentence != "off":
            instance["next_sentence_label"] = int(self.pairs.next_sentence_label[number])
        return instance

    def _num_tokens(self, segment: tuple[int, int]) -> int:
        return int(self.block.token_offsets[segment[1]] - self.block.token_offsets[segment[0]])

    def _assemble(self, segments: Sequence[tuple[int, int]], cuts: Sequence[slice]) -> dict[str, Any]:
        ids, types, starts = (
            [np.array([self.vocabulary.cls_id])],
            [np.zeros(1, dtype=np.int64)],
            [np.ones(1, dtype=bool)],
        )
        for token_type, (segment, cut) in enumerate(zip(segments, cuts, strict=True)):
            tokens = self.block.tokens_of(*segment)[cut]
            ids += [tokens, np.array([self.vocabulary.sep_id])]
            types.append(np.full(len(tokens) + 1, token_type))
            word_starts = self.block.word_starts_of(*segment)
            if word_starts is not None:
                starts += [word_starts[cut], np.ones(1, dtype=bool)]
        instance: dict[str, Any] = {"input_ids": np.concatenate(ids), "token_type_ids": np.concatenate(types)}
        if len(starts) > 1:
            instance["word_starts"] = np.concatenate(starts)
        return instance


def draw_block(block: Block, vocabulary: Vocabulary, rule: PairRule, *, seed: int, epoch: int) -> BlockEpoch:
    """Draws the instances of one block for one epoch and shuffles them: a pure function of its arguments."""
    key = (seed, epoch, block.number, rule.max_seq_length)
    pairs = draw_pairs(
        block.sentence_lengths_S,
        block.document_offsets,
        max_seq_length=rule.max_seq_length,
        next_sentence=rule.next_sentence,
        random_next_probability=rule.random_next_probability,
        short_seq_probability=rule.short_seq_probability,
        generator=np.random.default_rng((*key, _PAIRS)),
    )
    order = np.random.default_rng((*key, _ORDER)).permutation(len(pairs))
    return BlockEpoch(block, pairs, order, rule, vocabulary, key)


def _fit(lengths: Sequence[int], limit: int, *, key: tuple[int, ...]) -> list[slice]:
    """Cuts segments to `limit` tokens together, the longer one first, at random from its front or its back (A.2)."""
    excess = sum(lengths) - limit
    if excess <= 0:
        return [slice(None)] * len(lengths)
    if len(lengths) == 1:
        kept = [limit]
    else:
        longer_half = limit - limit // 2
        kept = [max(limit - lengths[1], min(lengths[0], longer_half)), 0]
        kept[1] = limit - kept[0]
    generator = np.random.default_rng(key)
    fronts = [int(generator.binomial(length - keep, 0.5)) for length, keep in zip(lengths, kept, strict=True)]
    return [slice(front, front + keep) for front, keep in zip(fronts, kept, strict=True)]
