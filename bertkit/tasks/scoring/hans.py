"""HANS: does an MNLI model fall for word overlap? (McCoy et al. 2019, table 4 and `evaluate_heur_output.py`)."""

from collections import Counter
from collections.abc import Sequence

from bertkit.errors import TaskError, nearest
from bertkit.tasks.scoring.checks import Scores, check_names, check_paired, ratio

ENTAILMENT = "entailment"
NON_ENTAILMENT = "non-entailment"
# HANS has two classes: an MNLI model's other two are one of them, and GLUE spells it with an underscore.
_TWO_WAY = {
    ENTAILMENT: ENTAILMENT,
    NON_ENTAILMENT: NON_ENTAILMENT,
    "not_entailment": NON_ENTAILMENT,
    "neutral": NON_ENTAILMENT,
    "contradiction": NON_ENTAILMENT,
}


def hans(predictions: Sequence[str], references: Sequence[str], *, heuristics: Sequence[str] | None = None) -> Scores:
    """Accuracy over HANS, and by heuristic and gold label as in the official table; three-way labels are folded.

    Raises:
        TaskError: no heuristic for each example, an unknown label, unequal lengths, or nothing to score.
    """
    check_paired(predictions, references)
    if heuristics is None or len(heuristics) != len(references):
        given = "none" if heuristics is None else str(len(heuristics))
        raise TaskError(f"hans needs a heuristic for each of {len(references)} examples in heuristics=: got {given}")
    check_names(heuristics, "heuristics")
    guesses, golds = _fold(predictions, "predictions"), _fold(references, "references")
    cells = list(zip(heuristics, golds, strict=True))
    seen = Counter(cells)
    correct = Counter(cell for cell, guess in zip(cells, guesses, strict=True) if cell[1] == guess)
    return {"accuracy": ratio(correct.total(), seen.total()), "by_heuristic": _table(correct, seen)}


def _fold(labels: Sequence[str], what: str) -> list[str]:
    check_names(labels, what)
    for label in set(labels):
        if label not in _TWO_WAY:
            known = ", ".join(_TWO_WAY)
            raise TaskError(f"{what} hold '{label}'{nearest(label, _TWO_WAY)}; hans knows {known}")
    return [_TWO_WAY[label] for label in labels]


def _table(correct: Counter[tuple[str, str]], seen: Counter[tuple[str, str]]) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for heuristic, gold in sorted(seen):
        table.setdefault(heuristic, {})[gold] = ratio(correct[heuristic, gold], seen[heuristic, gold])
    return table
