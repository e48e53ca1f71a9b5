"""Entities counted by type, without keeping the sentences they stand in."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from bertkit.errors import TaskError
from bertkit.tasks.scoring.chunks import lenient_chunks, matching, read_tags
from bertkit.workflows.report.numbers import ClassFigures, figures_of

# As many tags as numpy likes to have at once, and few enough to keep.
_SENTENCES_AT_ONCE: Final = 2000


class EntityCounts:
    """Counts entities as conlleval.pl finds them, `_SENTENCES_AT_ONCE` sentences in memory at a time."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Sequence[str], Sequence[str]]] = []
        self._types: dict[str, int] = {}
        # Right, predicted and gold ones, by type.
        self._counts = np.zeros((3, 0), np.int64)
        self._are_chunks = True

    def add(self, gold: Sequence[str], predicted: Sequence[str]) -> None:
        """Takes in the tags of one sentence."""
        self._waiting.append((gold, predicted))
        if len(self._waiting) == _SENTENCES_AT_ONCE:
            self._count()

    def figures(self) -> dict[str, ClassFigures] | None:
        """The figures of every type; None where a tag is no chunk's, such as a part of speech."""
        self._count()
        if not self._are_chunks:
            return None
        return {name: figures_of(*self._counts[:, place].tolist()) for name, place in self._types.items()}

    def _count(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not (waiting and self._are_chunks):
            return
        try:
            gold, predicted = (
                lenient_chunks(read_tags([pair[side] for pair in waiting], self._types)) for side in (0, 1)
            )
        except TaskError:
            self._are_chunks = False
            return
        sides = (matching(predicted, gold), predicted, gold)
        found = np.stack([np.bincount(side.type_K, minlength=len(self._types)) for side in sides])
        found[:, : self._counts.shape[1]] += self._counts
        self._counts = found
