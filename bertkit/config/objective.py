"""The pre-training objective, and what it says of pairs, which have a setting of their own: the two always agree."""

from collections.abc import Mapping
from typing import Any


def with_one_objective(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a pre-training config with `objective` and `pairs.next_sentence` both there.

    Raises:
        ValueError: both are given and contradict each other.
    """
    objective, second = values.get("objective"), _next_sentence(values.get("pairs"))
    if not isinstance(objective, str | None) or not isinstance(second, str | None):
        return dict(values)  # whoever checks the types says so
    if objective is None:
        return {**values, "objective": "mlm" if second == "off" else f"mlm+{second or 'nsp'}"}
    wanted = objective.partition("+")[2] or "off"
    if second is not None and second != wanted:
        raise ValueError(
            f"objective {objective} and pairs.next_sentence {second} contradict each other: leave out one of them, "
            "or set both"
        )
    return {**values, "pairs": _with_next_sentence(values.get("pairs"), wanted)}


def _next_sentence(pairs: Any) -> Any:
    """What was said of the second segment; None: nothing."""
    if isinstance(pairs, Mapping):
        return pairs.get("next_sentence")
    return pairs.next_sentence if "next_sentence" in getattr(pairs, "model_fields_set", ()) else None


def _with_next_sentence(pairs: Any, wanted: str) -> Any:
    if pairs is None or isinstance(pairs, Mapping):
        return {**(pairs or {}), "next_sentence": wanted}
    return pairs.model_copy(update={"next_sentence": wanted}) if hasattr(pairs, "model_copy") else pairs
