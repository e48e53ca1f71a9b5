"""The order in which encoded examples are trained on: seeded, split over processes, resumable from two integers."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from bertkit.data.collate import Batch
from bertkit.data.features import Array, Features, collate_features
from bertkit.data.loader import PREFETCHED_STEPS, Batching, Position, Prefetched, StepBatch, Stretch

BEGINNING = Position()


class FeatureLoader:
    """Batches of examples for ever, every epoch in an order of its own; each step is full, so epochs run into another.

    A batch is a number of groups (`Features.num_groups`): examples, or windows of them. The order is a pure function of
    (seed, epoch); a step holds the same examples whatever the number of processes and the micro-batches.
    """

    def __init__(self, features: Features, *, seed: int, batching: Batching) -> None:
        self._features = features
        self._lengths = _group_lengths(features)
        self._batching = batching
        num_groups = features.num_groups
        # Not a method: features are freed with their loader, not when garbage is collected.
        self._order = lru_cache(maxsize=2)(lambda epoch: np.random.default_rng((seed, epoch)).permutation(num_groups))

    def steps(self, position: Position = BEGINNING, *, micro_batch_tokens: int | None = None) -> Prefetched[StepBatch]:
        """This process's part of every step from `position` on, without end; prepared ahead in a thread."""
        steps = self._batching.steps(self._stretches(position), self._collate, micro_batch_tokens=micro_batch_tokens)
        return Prefetched(steps, depth=PREFETCHED_STEPS)

    def _collate(self, groups: list[int]) -> Batch:
        return collate_features(self._features, np.array(groups))

    def _stretches(self, position: Position) -> Iterator[Stretch[int]]:
        epoch, place = position.epoch, position.instance
        while True:
            order = self._order(epoch)
            yield Stretch(order, self._lengths[order], Position(epoch, 0, place), len(order))
            epoch, place = epoch + 1, 0


def _group_lengths(features: Features) -> Array:
    """Tokens of every group, [G]."""
    bounds = features.bounds
    return np.diff(bounds if features.group_bounds is None else bounds[features.group_bounds])
