"""The order in which encoded examples are trained on: seeded, split over processes, resumable from two integers."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from bertkit.data.collate import Batch
from bertkit.data.features import Array, Features, collate_features
from bertkit.data.loader import PREFETCHED_STEPS, Batching, Position, Prefetched, StepBatch

BEGINNING = Position()


class FeatureLoader:
    """Batches of examples for ever, every epoch in an order of its own; each step is full, so epochs run into another.

    A batch is a number of groups (`Features.num_groups`): examples, or windows of them. The order is a pure function of
    (seed, epoch), the same whatever the number of processes and the micro batch size.
    """

    def __init__(self, features: Features, *, seed: int, batching: Batching) -> None:
        self._features = features
        self._seed = seed
        self._batching = batching
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def steps(self, position: Position = BEGINNING) -> Prefetched[StepBatch]:
        """This process's part of every step from `position` on, without end; prepared ahead in a thread."""
        return Prefetched(self._batching.steps(self._places(position), self._collate), depth=PREFETCHED_STEPS)

    def _collate(self, groups: list[int]) -> Batch:
        return collate_features(self._features, np.array(groups))

    def _places(self, position: Position) -> Iterator[tuple[int, Position]]:
        epoch, place = position.epoch, position.instance
        while True:
            order = self._order(epoch)
            for number in range(place, len(order)):
                yield int(order[number]), Position(epoch, 0, number + 1)
            epoch, place = epoch + 1, 0

    def _draw_order(self, epoch: int) -> Array:
        return np.random.default_rng((self._seed, epoch)).permutation(self._features.num_groups)
