"""Labels by name: what a file or a data set writes, in the words of the task."""

import math
from typing import Any

from bertkit.errors import TaskError
from bertkit.tasks.spec import Label, TaskSpec


def label_of(spec: TaskSpec, value: Any, *, place: str, names: tuple[str, ...] = ()) -> Label | None:
    """The label that a row means: a name as it is, a number as the id of one, a score as a float; None for no label.

    names: of the ids, where the data set brings its own. Raises TaskError: the value is no label of the task.
    """
    if spec.problem == "regression":
        return _score_of(value, place=place)
    known = names or spec.labels
    if value is None or value in (-1, "-"):
        return None
    name = str(value)
    if name in known or not known:
        return name
    by_id = {str(index): label for index, label in enumerate(known)}
    if name in by_id:
        return by_id[name]
    raise TaskError(
        f"{place}: the label {value!r} is none of this task's: mend it to one of {', '.join(known)}, "
        f"or to its id, 0 to {len(known) - 1}"
    )


def _score_of(value: Any, *, place: str) -> float:
    try:
        score = float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise TaskError(f"{place}: the score {value!r} is no number: mend the row or take it out")
    return score
