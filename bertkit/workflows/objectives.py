"""What a run of pre-training learns, as cards, reports and servers say it; read from its config as it was written."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from bertkit.config.objective import with_one_objective

Words = Literal["mlm", "ltr", "bilm"]
Term = Literal["mlm", "lm"]

# What figures of a term are called in front of "loss" and "accuracy". Words that are masked and words that are yet to
# come are guessed from other contexts, so their figures are never put side by side.
TERM_TITLES: Final[dict[Term, str]] = {"mlm": "Masked LM", "lm": "LM"}
_LEARNED: Final[dict[str, str]] = {
    "mlm": "masked language modelling",
    "ltr": "left-to-right language modelling",
    "bilm": "language modelling in both directions",
    "nsp": "next sentence prediction",
    "sop": "sentence order prediction",
}


@dataclass(frozen=True)
class Objective:
    """What is learned of words and, unless that is 'off', of pairs of sentences."""

    words: Words
    pairs: Literal["nsp", "sop", "off"]

    @property
    def term(self) -> Term:
        """What the names of its figures begin with."""
        return "mlm" if self.words == "mlm" else "lm"

    @property
    def title(self) -> str:
        """What its figures of words are called."""
        return TERM_TITLES[self.term]

    @property
    def learned(self) -> str:
        """All of it, in words."""
        return " and ".join(_LEARNED[part] for part in (self.words, self.pairs) if part != "off")

    @property
    def pairs_learned(self) -> str:
        """What it learns of pairs, in words."""
        return _LEARNED.get(self.pairs, "")

    @property
    def pairs_title(self) -> str:
        """What its figures of pairs are called; in files they are `nsp_...` whatever is learned of pairs."""
        return self.pairs_learned.removesuffix(" prediction")


def objective_of(config: Mapping[str, Any]) -> Objective:
    """The objective of a pre-training run, also of one that was begun before there was more than one.

    Raises ValueError for a config that contradicts itself, and KeyError for one that names no objective there is.
    """
    words, _, pairs = with_one_objective(config)["objective"].partition("+")
    if words not in _LEARNED:
        raise KeyError(f"there is no objective {words!r}")
    return Objective(words, pairs or "off")
