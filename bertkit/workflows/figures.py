"""Figures and times as papers print them."""

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


def duration(seconds: float) -> str:
    """Seconds as a person says them: 2.5 s, 45 s, 12 min 5 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.2g} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
