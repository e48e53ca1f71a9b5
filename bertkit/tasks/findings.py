"""What is wrong with labelled data, as sentences that name rows and remedies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["error", "warning", "note"]

PLACES_NAMED: Final = 5


@dataclass(frozen=True)
class Finding:
    """One thing found: an error where training would be wrong, a warning where results would be, or a note.

    rows: the places of all rows it is about; the sentence names the first few.
    """

    severity: Severity
    sentence: str
    rows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lengths:
    """Tokens of every example, special ones included: percentiles, and how many examples lie in each of equal bins."""

    percentiles: dict[int, int]
    longest: int
    bins: tuple[int, ...]
    num_longer: int
    num_examples: int


@dataclass(frozen=True)
class Report:
    """Everything found, errors first; the weights proposed for the classes, in the order of `labels`; the lengths."""

    findings: tuple[Finding, ...]
    labels: tuple[str, ...] = ()
    class_weights: tuple[float, ...] | None = None
    lengths: Lengths | None = None

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What training would be wrong with."""
        return self.of("error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """What results would be wrong or worse with."""
        return self.of("warning")

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def sentences(self) -> list[str]:
        """Every finding as a user reads it, errors first."""
        return [f"{finding.severity}: {finding.sentence}" for finding in self.findings]


def found(severity: Severity, what: str, places: Sequence[str] = (), *, remedy: str = "") -> Finding:
    """A finding whose sentence says what, where (the first few places) and what to do."""
    where = f" ({name_places(places)})" if places else ""
    return Finding(severity, f"{what}{where}{f': {remedy}' if remedy else ''}", tuple(places))


def name_places(places: Sequence[str]) -> str:
    """The first few places, and how many more."""
    more = len(places) - PLACES_NAMED
    return ", ".join(places[:PLACES_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def count_in_words(number: int, of: int, thing: str = "row") -> str:
    """Such as: 3 of 120 rows."""
    return f"{number:,} of {of:,} {thing}{'' if of == 1 else 's'}"
