"""The cells that are left: a run of fine-tuning waits for its model."""

from collections.abc import Sequence

from bertkit.workflows.ablate.cells import Outcome
from bertkit.workflows.ablate.plan import Cell, FinetuneCell, PretrainCell


class Todo:
    """Hands out cells in order, each once, none before the model it begins from."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._left = list(cells)
        self._awaited = {cell.key for cell in cells if isinstance(cell, PretrainCell)}

    def __len__(self) -> int:
        return len(self._left)

    def take(self) -> Cell | None:
        """The next cell that can begin now; None where there is none, or not yet."""
        for number, cell in enumerate(self._left):
            if isinstance(cell, PretrainCell) or cell.model.key not in self._awaited:
                return self._left.pop(number)
        return None

    def over(self, cell: Cell, outcome: Outcome) -> list[tuple[Cell, Outcome]]:
        """Takes note of a cell's end; returns those that cannot begin any more, with how that is."""
        if not isinstance(cell, PretrainCell) or outcome.state == "stopped":
            return []
        if outcome.state == "finished":
            self._awaited.discard(cell.key)
            return []
        without = [each for each in self._left if isinstance(each, FinetuneCell) and each.model == cell]
        self._left = [each for each in self._left if each not in without]
        reason = f"there is no model {cell.key}"
        if outcome.state == "lost":
            reason = f"the model {cell.key} was lost with its worker, and the same command goes on with it"
        return [(each, Outcome(each.key, "skipped", reason=reason)) for each in without]
