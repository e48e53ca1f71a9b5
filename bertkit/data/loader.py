"""The order of batches: seeded, split over processes, and resumable from three integers.

Where the run stands in the data is `Position(epoch, block, instance)`. Nothing is skipped through to get there: the
instances of a block are drawn from (store, seed, epoch) in one go, so step 1,000,000 is reached as fast as step 10.
Of a step's global batch a process looks at the lengths, as one array, and builds its own instances only.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np

from bertkit.data.collate import Batch, DataCollatorForPretraining
from bertkit.data.instances import Block, BlockEpoch, PairRule, draw_block
from bertkit.data.pairs import NOT_NEXT, Ints
from bertkit.data.store import StoreSplit
from bertkit.data.vocabulary import Vocabulary

# Sentences that are shuffled together and whose index is in memory at once: some 100 bytes each.
SENTENCES_A_BLOCK = 4_000_000
PREFETCHED_STEPS = 2
# How instances follow each other in a split of several blocks; a run goes on only in the order it began with.
DATA_ORDER = 2
_GROUPS = 5  # what this random stream is for, beside those of instances.py

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class Items(Protocol[Item_co]):
    """Whatever gives the item at a place."""

    def __getitem__(self, place: int, /) -> Item_co: ...


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
class Stretch(Generic[Item]):
    """Items in a row, from `begin` up to the place `stop`; `lengths_I`: tokens of all of `items`."""

    items: Items[Item]
    lengths_I: Ints
    begin: Position
    stop: int

    def __len__(self) -> int:
        return self.stop - self.begin.instance

    @property
    def own_lengths_I(self) -> Ints:
        """Tokens of those in the row."""
        return self.lengths_I[self.begin.instance : self.stop]

    def cut(self, num: int) -> "tuple[Stretch[Item], Stretch[Item]]":
        """The first `num` items or as many as there are, and the rest."""
        middle = min(self.begin.instance + num, self.stop)
        return replace(self, stop=middle), replace(self, begin=replace(self.begin, instance=middle))


@dataclass(frozen=True)
class Batching:
    """How the examples of a step are shared out: over processes and, where there are bounds, over forward passes."""

    global_batch_size: int
    micro_batch_size: int | None = None
    rank: int = 0
    num_processes: int = 1

    def steps(
        self,
        stretches: Iterator[Stretch[Item]],
        collate: Callable[[list[Item]], Batch],
        *,
        micro_batch_tokens: int | None = None,
    ) -> Iterator[StepBatch]:
        """This process's part of every step, from stretches without end."""
        for parts in self.global_steps(stretches):
            yield self._share(parts, collate, micro_batch_tokens=micro_batch_tokens)

    def global_steps(self, stretches: Iterator[Stretch[Item]]) -> Iterator[list[Stretch[Item]]]:
        """What all processes together take in every step."""
        rest = next(stretches)
        while True:
            parts, missing = [], self.global_batch_size
            while missing:
                if not len(rest):
                    rest = next(stretches)
                part, rest = rest.cut(missing)
                parts.append(part)
                missing -= len(part)
            yield parts

    def cut(self, lengths_I: Ints, *, micro_batch_tokens: int | None = None) -> list[Ints]:
        """This process's micro-batches of one step, longest first, as numbers of its items; one too long goes alone.

        Items are dealt out by length, so every process gets about as many tokens and exactly as many micro-batches,
        which parameters that are spread over processes need. `lengths_I`: tokens of every item of the step.
        """
        order = longest_first(lengths_I)
        lengths_I = lengths_I[order]
        # The longest of every round decides for all processes.
        behind = np.cumsum(lengths_I[:: self.num_processes])
        own, cuts, start = order[deal(lengths_I, self.num_processes) == self.rank], [], 0
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

    def _share(
        self, parts: Sequence[Stretch[Item]], collate: Callable[[list[Item]], Batch], *, micro_batch_tokens: int | None
    ) -> StepBatch:
        lengths_I = np.concatenate([part.own_lengths_I for part in parts])
        ends = np.cumsum([len(part) for part in parts])

        def item(number: int) -> Item:
            which = int(np.searchsorted(ends, number, side="right"))
            return parts[which].items[parts[which].stop - int(ends[which] - number)]

        cuts = self.cut(lengths_I, micro_batch_tokens=micro_batch_tokens)
        micro_batches = tuple(collate([item(int(number)) for number in cut]) for cut in cuts)
        return StepBatch(micro_batches, replace(parts[-1].begin, instance=parts[-1].stop))


def longest_first(lengths_I: Ints) -> Ints:
    """Places by length, those of equal ones in order; numbers that fit 16 bits are sorted ten times as fast."""
    longest = lengths_I.max(initial=0)
    order: Ints = np.argsort((longest - lengths_I).astype(np.min_scalar_type(longest)), kind="stable")
    return order


def deal(lengths_I: Ints, num_processes: int) -> Ints:
    """The process that each of some items, longest first, is dealt to, [I].

    They are dealt in rounds of one to each; in every round who has the fewest tokens so far gets the longest.
    """
    if num_processes == 1:
        return np.zeros(len(lengths_I), dtype=np.int64)
    tokens, takers = np.zeros(num_processes, dtype=np.int64), []
    for first in range(0, len(lengths_I), num_processes):
        given = lengths_I[first : first + num_processes]
        takers.append(np.argsort(tokens, kind="stable")[: len(given)])
        tokens[takers[-1]] += given
    return np.concatenate(takers)


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
        self._collator = collator
        self._batching = batching
        self._split = split
        self._num_blocks = count_blocks(split, sentences_a_block=sentences_a_block)

        def draw(epoch: int, place: int) -> BlockEpoch:
            # Blocks are grouped anew, so that what one read from its shards is freed with it.
            blocks = group_shards(split, seed=seed, epoch=epoch, sentences_a_block=sentences_a_block)
            return draw_block(blocks[place], vocabulary, rule, seed=seed, epoch=epoch)

        # Two: the one that is read, and the next one. Not a method: blocks are freed with their loader, not when
        # garbage is collected.
        self._draw = lru_cache(maxsize=2)(draw)

    def steps(
        self, position: Position = Position(), *, micro_batch_tokens: int | None = None
    ) -> "Prefetched[StepBatch]":
        """This process's part of every step from `position` on, without end; prepared ahead in a thread."""
        return Prefetched(self.steps_here(position, micro_batch_tokens=micro_batch_tokens), depth=PREFETCHED_STEPS)

    def steps_here(self, position: Position, *, micro_batch_tokens: int | None = None) -> Iterator[StepBatch]:
        """The same, each made when it is asked for."""
        return self._batching.steps(self.stretches(position), self._collator, micro_batch_tokens=micro_batch_tokens)

    def stretches(self, position: Position) -> Iterator[Stretch[dict[str, Any]]]:
        """Every instance from `position` on; the next block is drawn in a thread behind the second half of each."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="bertkit-draw") as ahead:
            drawn = self._draw(position.epoch, position.block)
            while True:
                lengths_I = instance_lengths(drawn)
                middle = max(position.instance, len(drawn) // 2)
                yield Stretch(drawn, lengths_I, position, middle)
                following = self._block_after(position)
                coming = ahead.submit(self._draw, following.epoch, following.block)
                yield Stretch(drawn, lengths_I, replace(position, instance=middle), max(middle, len(drawn)))
                position, drawn = following, coming.result()

    def num_instances(self, epoch: int = 0) -> int:
        """Instances of one epoch; of several blocks estimated from the first, or a run would begin by reading all."""
        drawn = self._draw(epoch, 0)
        sentences = self._split.num_sentences
        return round(len(drawn) * sentences / max(1, drawn.block.num_sentences))

    def random_next_share(self) -> float:
        """Share of random next sentences among the labelled pairs of the first block, for a warning when it is off."""
        labels = self._draw(0, 0).pairs.next_sentence_label
        labelled = labels[labels >= 0]
        return float((labelled == NOT_NEXT).mean()) if len(labelled) else 0.0

    def _block_after(self, position: Position) -> Position:
        is_last = position.block + 1 == self._num_blocks
        return Position(position.epoch + 1) if is_last else Position(position.epoch, position.block + 1)


def instance_lengths(drawn: BlockEpoch) -> Ints:
    """Tokens of every instance in its shuffled order, [I], without building one."""
    pairs, first = drawn.pairs, drawn.block.token_offsets
    tokens_I = first[pairs.a_stop] - first[pairs.a_start] + first[pairs.b_stop] - first[pairs.b_start]
    special_I = 2 + (pairs.b_start < pairs.b_stop)
    lengths_I: Ints = np.minimum(tokens_I + special_I, drawn.rule.max_seq_length)[drawn.order]
    return lengths_I


def count_blocks(split: StoreSplit, *, sentences_a_block: int = SENTENCES_A_BLOCK) -> int:
    """How many blocks the shards of a split are grouped into: one unless the split is large."""
    return max(1, min(len(split.info.shards), round(split.num_sentences / sentences_a_block)))


def group_shards(
    split: StoreSplit, *, seed: int = 0, epoch: int = 0, sentences_a_block: int = SENTENCES_A_BLOCK
) -> tuple[Block, ...]:
    """Groups the shards of a split into blocks of about as many, other ones every epoch, so that all meet in time."""
    num_blocks = count_blocks(split, sentences_a_block=sentences_a_block)
    shards = split.shards
    order = np.arange(len(shards))
    if num_blocks > 1:
        order = np.random.default_rng((seed, epoch, num_blocks, _GROUPS)).permutation(len(shards))
    groups = np.array_split(order, num_blocks)
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
