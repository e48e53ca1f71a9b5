"""The order of batches: seeded, split over processes, and resumable from three integers.

Where the run stands in the data is `Position(epoch, block, instance)`. Nothing is skipped through to get there: the
instances of a block are drawn from (store, seed, epoch) in one go, so step 1,000,000 is reached as fast as step 10.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import islice
from typing import Any, Generic, Self, TypeVar

import numpy as np

from bertkit.data.collate import Batch, DataCollatorForPretraining
from bertkit.data.instances import Block, BlockEpoch, PairRule, draw_block
from bertkit.data.pairs import NOT_NEXT, Ints
from bertkit.data.store import StoreSplit
from bertkit.data.vocabulary import Vocabulary

# Sentences that are shuffled together and whose index is in memory at once: some 100 bytes each.
SENTENCES_A_BLOCK = 4_000_000
PREFETCHED_STEPS = 2

Item = TypeVar("Item")


@dataclass(frozen=True)
class Position:
    """Where the next optimizer step begins: epoch, number of the block in the epoch's order, place in the block."""

    epoch: int = 0
    block: int = 0
    instance: int = 0

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class StepBatch:
    """One process's share of one optimizer step, and where the step after it begins."""

    micro_batches: tuple[Batch, ...]
    position: Position


@dataclass(frozen=True)
class Batching:
    """How the examples of a step are shared out: over processes and, where there are bounds, over forward passes."""

    global_batch_size: int
    micro_batch_size: int | None = None
    rank: int = 0
    num_processes: int = 1

    def steps(
        self,
        places: Iterator[tuple[Item, int, Position]],
        collate: Callable[[list[Item]], Batch],
        *,
        micro_batch_tokens: int | None = None,
    ) -> Iterator[StepBatch]:
        """This process's part of every step, from endless (item, its tokens, the position behind it)."""
        while True:
            items, lengths, positions = zip(*islice(places, self.global_batch_size), strict=True)
            cuts = self.cut(np.array(lengths), micro_batch_tokens=micro_batch_tokens)
            yield StepBatch(tuple(collate([items[number] for number in cut]) for cut in cuts), positions[-1])

    def cut(self, lengths_I: Ints, *, micro_batch_tokens: int | None = None) -> list[Ints]:
        """This process's micro-batches of one step, longest first, as numbers of its items; one too long goes alone.

        Items are dealt out by length, so every process gets about as many tokens and exactly as many micro-batches,
        which parameters that are spread over processes need. `lengths_I`: tokens of every item of the step.
        """
        order = np.argsort(-lengths_I, kind="stable")
        # The process that is dealt the first, the longest, of every round decides for all.
        behind = np.cumsum(lengths_I[order[:: self.num_processes]])
        own, cuts, start = order[self.rank :: self.num_processes], [], 0
        while start < len(behind):
            stop = len(behind)
            if micro_batch_tokens is not None:
                before = behind[start - 1] if start else 0
                stop = max(start + 1, int(np.searchsorted(behind, before + micro_batch_tokens, side="right")))
            if self.micro_batch_size is not None:
                stop = min(stop, start + self.micro_batch_size)
            cuts.append(own[start:stop])
            start = stop
        return cuts


class PretrainingLoader:
    """Batches of one split for ever; a step holds the same instances whatever the processes and the micro-batches."""

    def __init__(
        self,
        split: StoreSplit,
        vocabulary: Vocabulary,
        rule: PairRule,
        *,
        collator: DataCollatorForPretraining,
        seed: int,
        batching: Batching,
        sentences_a_block: int = SENTENCES_A_BLOCK,
    ) -> None:
        self.rule = rule
        self._vocabulary = vocabulary
        self._collator = collator
        self._seed = seed
        self._batching = batching
        self._split = split
        self._sentences_a_block = sentences_a_block
        self._num_blocks = len(group_shards(split, sentences_a_block=sentences_a_block))
        # Two: a step may straddle the end of one block and the start of the next.
        self._draw = lru_cache(maxsize=2)(self._draw_block)

    def steps(
        self, position: Position = Position(), *, micro_batch_tokens: int | None = None
    ) -> "Prefetched[StepBatch]":
        """This process's part of every step from `position` on, without end; prepared ahead in a thread."""
        steps = self._batching.steps(self._places(position), self._collate, micro_batch_tokens=micro_batch_tokens)
        return Prefetched(steps, depth=PREFETCHED_STEPS)

    def num_instances(self, epoch: int = 0) -> int:
        """Instances of one epoch; draws every block once to count them."""
        return sum(len(self._draw(epoch, place)) for place in range(self._num_blocks))

    def random_next_share(self) -> float:
        """Share of random next sentences among the labelled pairs of the first block, for a warning when it is off."""
        labels = self._draw(0, 0).pairs.next_sentence_label
        labelled = labels[labels >= 0]
        return float((labelled == NOT_NEXT).mean()) if len(labelled) else 0.0

    def _collate(self, places: list[tuple[BlockEpoch, int]]) -> Batch:
        return self._collator([drawn[place] for drawn, place in places])

    def _places(self, position: Position) -> Iterator[tuple[tuple[BlockEpoch, int], int, Position]]:
        """Every instance from `position` on, its tokens, and the position behind it."""
        epoch, block, instance = position.epoch, position.block, position.instance
        while True:
            drawn = self._draw(epoch, block)
            lengths_I = instance_lengths(drawn)
            for place in range(instance, len(drawn)):
                yield (drawn, place), int(lengths_I[place]), Position(epoch, block, place + 1)
            instance, block = 0, block + 1
            if block == self._num_blocks:
                epoch, block = epoch + 1, 0

    def _draw_block(self, epoch: int, place: int) -> BlockEpoch:
        order = np.random.default_rng((self._seed, epoch, self._num_blocks)).permutation(self._num_blocks)
        # Blocks are grouped anew, so that what one read from its shards is freed with it.
        block = group_shards(self._split, sentences_a_block=self._sentences_a_block)[order[place]]
        return draw_block(block, self._vocabulary, self.rule, seed=self._seed, epoch=epoch)


def instance_lengths(drawn: BlockEpoch) -> Ints:
    """Tokens of every instance in its shuffled order, [I], without building one."""
    pairs, behind = drawn.pairs, np.concatenate([[0], np.cumsum(drawn.block.sentence_lengths_S)])
    tokens_I = behind[pairs.a_stop] - behind[pairs.a_start] + behind[pairs.b_stop] - behind[pairs.b_start]
    special_I = 2 + (pairs.b_start < pairs.b_stop)
    lengths_I: Ints = np.minimum(tokens_I + special_I, drawn.rule.max_seq_length)[drawn.order]
    return lengths_I


def group_shards(split: StoreSplit, *, sentences_a_block: int = SENTENCES_A_BLOCK) -> tuple[Block, ...]:
    """Groups the shards of a split into blocks of about equal size, in order: one block unless the split is large."""
    shards = split.shards
    num_blocks = max(1, min(len(shards), round(split.num_sentences / sentences_a_block)))
    groups = np.array_split(np.arange(len(shards)), num_blocks)
    return tuple(Block(tuple(shards[i] for i in group), number) for number, group in enumerate(groups))


def draw_epoch(
    split: StoreSplit, vocabulary: Vocabulary, rule: PairRule, *, seed: int = 0, epoch: int = 0
) -> BlockEpoch:
    """All instances of one epoch, each with the key of its own fixed masks."""
    return draw_block(Block(split.shards), vocabulary, rule, seed=seed, epoch=epoch)


class PretrainingDataset:
    """Instances as a map-style data set for torch's DataLoader or transformers' Trainer, which calls `set_epoch`.

    Masks are left to the collator, new each time. For whole words of Chinese set Trainer's
    `remove_unused_columns=False`, or it drops `word_starts`.
    """

    def __init__(self, split: StoreSplit, vocabulary: Vocabulary, rule: PairRule, *, seed: int = 0) -> None:
        self._draw = lambda epoch: draw_epoch(split, vocabulary, rule, seed=seed, epoch=epoch)
        self._epoch = 0
        self._instances = self._draw(0)

    def set_epoch(self, epoch: int) -> None:
        """Draws the pairs of another epoch."""
        if epoch != self._epoch:
            self._epoch, self._instances = epoch, self._draw(epoch)

    def __len__(self) -> int:
        return len(self._instances)

    def __getitem__(self, place: int) -> dict[str, Any]:
        instance = self._instances[place]
        del instance["key"]
        return instance


def heldout_batches(
    instances: BlockEpoch, collator: DataCollatorForPretraining, *, batch_size: int, max_instances: int
) -> Iterator[Batch]:
    """The first `max_instances` of a held-out epoch, batched; masks are fixed by each instance's own key."""
    num = min(max_instances, len(instances))
    for first in range(0, num, batch_size):
        yield collator([instances[place] for place in range(first, min(first + batch_size, num))])


class Prefetched(Generic[Item]):
    """Runs an iterator ahead in a thread, `depth` items at the most; its errors surface where the item would."""

    _END = object()

    def __init__(self, items: Iterator[Item], *, depth: int) -> None:
        self._queue: queue.Queue[object] = queue.Queue(maxsize=depth)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(items,), name="bertkit-prefetch", daemon=True)
        self._thread.start()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Item:
        item = self._queue.get()
        if item is self._END:
            self._queue.put(item)
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item  # type: ignore[return-value]  # the queue holds items, the end mark and errors

    def close(self) -> None:
        """Stops the thread; items not yet taken are dropped."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def _run(self, items: Iterator[Item]) -> None:
        end: object = self._END
        try:
            for item in items:
                if not self._put(item):
                    return
        except BaseException as error:
            end = error
        self._put(end)

    def _put(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
