"""What stands in a label's column as the label of an example, by name; and which problem labels mean."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bertkit.tasks.spec import Example, ProblemName
from bertkit.tasks.table import kind_of, text_fault

NAMED: Final = ("classification", "multi_label", "tagging")
SEPARATORS: Final = ("|", ";")
YES: Final = frozenset(("1", "1.0", "true", "yes"))
NO: Final = frozenset(("0", "0.0", "false", "no", ""))
# Whole numbers are classes, unless so many differ that a class would have hardly any example.
MANY_NUMBERS: Final = 20
EXAMPLES_A_NUMBER: Final = 3


class RowError(ValueError):
    """Why a row cannot be used, as the reason of a broken row."""


@dataclass(frozen=True)
class Detected:
    """The kind of problem that labels mean, and why."""

    problem: ProblemName
    reason: str


def class_name(value: Any) -> str | None:
    """A label of classification; None for an empty cell.

    Raises RowError for a list or an object.
    """
    if is_missing(value):
        return None
    if isinstance(value, list | tuple | dict | bytes):
        raise RowError(
            f"has {kind_of(value)} for a label, not one name: if rows have several labels, set task.problem=multi_label"
        )
    name = str(value).strip()
    if fault := text_fault(name):
        raise RowError(fault)
    return name


def number(value: Any) -> float | None:
    """A label of regression; None for an empty cell; NaN and infinity are numbers here.

    Raises RowError for what is no number.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise RowError(
            f"has {shown(value)} for a label, which is no number: write one such as 3.5, "
            "or set task.problem=classification"
        ) from None


def label_set(value: Any, separator: str | None = None) -> tuple[str, ...] | None:
    """The labels of one cell of multi_label: a list, or names between separators; () for an empty cell, None for null.

    Raises RowError for an object, or a list of other things than names.
    """
    if value is None or isinstance(value, dict | bytes):
        if value is None:
            return None
        raise RowError(f"has {kind_of(value)} for labels: write a list of names")
    parts = value if isinstance(value, list | tuple) else _parts(str(value), separator)
    names = [class_name(part) for part in parts]
    return tuple(dict.fromkeys(name for name in names if name is not None))


def chosen_labels(cells: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels whose column says 1.

    Raises RowError for a cell that is neither 0 nor 1.
    """
    chosen = []
    for name, value in cells.items():
        word = "" if is_missing(value) else str(value).strip().lower()
        if word not in YES | NO:
            raise RowError(f"has {shown(value)} in the label column {name!r}: write 0 or 1")
        if word in YES:
            chosen.append(name)
    return tuple(chosen)


def choice_number(value: Any) -> int | None:
    """The right choice, from 0; a letter counts from A; None for an empty cell.

    Raises RowError for anything else.
    """
    if is_missing(value):
        return None
    word = str(value).strip()
    if len(word) == 1 and "a" <= word.lower() <= "z":
        return ord(word.lower()) - ord("a")
    parsed = _finite(word)
    if parsed is None or parsed != int(parsed):
        raise RowError(f"has {shown(value)} for the right choice: write its number, from 0, or its letter, from A")
    return int(parsed)


def is_missing(value: Any) -> bool:
    """Whether a cell says nothing: null, spaces, or the NaN that data frames write for it."""
    return (
        value is None
        or (isinstance(value, str) and not value.strip())
        or (isinstance(value, float) and math.isnan(value))
    )


def label_names(examples: Iterable[Example], problem: ProblemName) -> tuple[str, ...]:
    """The names of all labels in the order of the model's ids: by alphabet, or by value where all are numbers.

    None for problems whose labels have no names.
    """
    if problem not in NAMED:
        return ()
    names: set[str] = set()
    for example in examples:
        if isinstance(example.label, str):
            names.add(example.label)
        elif isinstance(example.label, tuple):
            names.update(label for label in example.label if isinstance(label, str))
    values = {name: _finite(name) for name in names}
    if all(value is not None for value in values.values()):
        return tuple(sorted(names, key=lambda name: (values[name] or 0.0, name)))
    return tuple(sorted(names))


def problem_of_labels(labels: Iterable[Any], *, num_columns: int = 1) -> Detected:
    """Which problem the values of a label's column mean: classification wherever there is doubt."""
    if num_columns > 1:
        return Detected("multi_label", f"{num_columns} label columns are named")
    counts: Counter[str] = Counter()
    for label in labels:
        if isinstance(label, list | tuple):
            return Detected("multi_label", "labels are lists")
        if not is_missing(label):
            counts[str(label).strip()] += 1
    values = [_finite(name) for name in counts]
    if counts and None not in values:
        return _of_numbers([value for value in values if value is not None], counts.total())
    return _of_names(counts)


def _of_numbers(values: Sequence[float], num_rows: int) -> Detected:
    if any(value != int(value) for value in values):
        return Detected("regression", "labels are numbers with fractions")
    if len(values) > MANY_NUMBERS and num_rows < EXAMPLES_A_NUMBER * len(values):
        return Detected("regression", f"labels are {len(values):,} different numbers in {num_rows:,} rows")
    return Detected("classification", f"labels are {len(values):,} whole numbers")


def _of_names(counts: Mapping[str, int]) -> Detected:
    for separator in SEPARATORS:
        cells = [{part.strip() for part in name.split(separator)} for name in counts]
        seen = Counter(part for cell in cells for part in cell)
        # A label that comes alone in one row and beside another in the next: the separator is none of its letters.
        if any(len(cell) > 1 and any(seen[part] > 1 for part in cell) for cell in cells):
            return Detected("multi_label", f"labels are lists with {separator!r} between them")
    return Detected("classification", f"labels are {len(counts):,} names")


def _parts(text: str, separator: str | None) -> Sequence[Any]:
    if separator is not None:
        return text.split(separator)
    if text.lstrip().startswith("["):
        try:
            parsed = json.loads(text)
        except (ValueError, RecursionError):
            parsed = None
        if isinstance(parsed, list):
            return parsed
    found = next((separator for separator in SEPARATORS if separator in text), None)
    return text.split(found) if found else [text]


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def shown(value: Any) -> str:
    """A value as an error shows it: short."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
