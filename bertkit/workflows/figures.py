"""Figures as papers print them."""

from typing import Final

_PLAIN: Final = ("mse", "pearson", "spearman")


def printed(name: str, value: float, problem: str) -> str:
    """A figure as papers print it: shares in percent, SQuAD's as they come, counts and correlations as they are."""
    plain = name.split("_")[-1]
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if plain in _PLAIN or "thresh" in name:
        return f"{value:.4f}"
    if problem == "span_qa":
        return f"{value:.2f}"
    return f"{100 * value:.2f} %"
