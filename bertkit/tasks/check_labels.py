"""Labels: names that training does not know, classes that are few or one, weights that balance them, numbers."""

import difflib
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from bertkit.tasks.findings import Finding, count_in_words, found
from bertkit.tasks.spec import Example, ProblemName

# With fewer, a class is hardly learned and its score is chance.
FEWEST_EXAMPLES: Final = 8
# The largest class against the smallest: from here weights are worth a try.
UNBALANCED: Final = 3.0
NAMES_SHOWN: Final = 8
MANY_CLASSES: Final = 20


def balanced_weights(labels: Iterable[Any], names: Sequence[str]) -> tuple[float, ...]:
    """A weight for each class, N / (C n_c), with which every class counts as much as any other.

    Their mean over the examples is 1. C counts the classes that have examples; one that has none weighs 1.
    """
    counts = Counter(label for label in labels if label in names)
    total = counts.total()
    return tuple(total / (len(counts) * counts[name]) if counts[name] else 1.0 for name in names)


def check_names(
    train: Sequence[Example], evaluate: Mapping[str, Sequence[Example]], problem: ProblemName, names: Sequence[str]
) -> Iterator[Finding]:
    """Labels by name: classes, sets of labels, tags."""
    places = _places_of_names(train)
    unknown = [name for name in places if name not in names]
    if unknown:
        yield found(
            "error",
            f"train has labels that the task has not: {_listed(unknown)}",
            [place for name in unknown for place in places[name]],
            remedy=f"mend them to one of {_listed(names)}",
        )
    yield from _too_alike(places)
    if len(places) == 1:
        (name,) = places
        yield found(
            "error",
            f"every row of train has the same label, {name!r}, beginning with {places[name][0]}",
            remedy="there is nothing to learn: add rows of another label, or name another column with --label",
        )
    for split, examples in evaluate.items():
        yield from _unseen(examples, places, split)
    if problem != "tagging" and len(places) > 1:
        yield from _balance(train, places, problem, names)


def check_numbers(examples: Sequence[Example], *, split: str) -> Iterator[Finding]:
    """Numbers to be predicted: finite, and not all the same."""
    labelled = [(example, float(example.label)) for example in examples if isinstance(example.label, int | float)]
    strange = [example.place for example, value in labelled if not math.isfinite(value)]
    if strange:
        yield found(
            "error",
            f"{count_in_words(len(strange), len(examples))} of {split} have a label that is no finite number",
            strange,
            remedy="write a number, or remove the row",
        )
    values = [value for _, value in labelled if math.isfinite(value)]
    if not values:
        return
    if len(values) > 1 and min(values) == max(values):
        yield found(
            "error" if split == "train" else "warning",
            f"every row of {split} has the same number, {values[0]:g}, beginning with {labelled[0][0].place}",
            remedy="there is nothing to learn or to tell apart: name another column with --label",
        )
    else:
        mean = sum(values) / len(values)
        yield found("note", f"labels of {split} go from {min(values):g} to {max(values):g}, {mean:.3g} in the mean")


def _places_of_names(examples: Iterable[Example]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = defaultdict(list)
    for example in examples:
        names = (example.label,) if isinstance(example.label, str) else example.label
        for name in dict.fromkeys(names) if isinstance(names, tuple) else ():
            if isinstance(name, str):
                places[name].append(example.place)
    return dict(places)


def _too_alike(places: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name in places:
        alike[" ".join(unicodedata.normalize("NFKC", name).lower().split())].append(name)
    groups = [names for names in alike.values() if len(names) > 1]
    if groups:
        shown = "; ".join(" and ".join(map(repr, names)) for names in groups[:3])
        yield found(
            "warning",
            f"labels differ in capitals, spaces or the way letters are encoded alone: {shown}",
            [places[name][0] for names in groups for name in names],
            remedy="write them the same if they mean the same",
        )


def _unseen(examples: Sequence[Example], known: Mapping[str, Sequence[str]], split: str) -> Iterator[Finding]:
    places = _places_of_names(examples)
    unseen = [name for name in places if name not in known]
    if unseen:
        hints = [f"{name!r} may be {near!r}" for name in unseen if (near := _nearest(name, known))]
        rows = [place for name in unseen for place in places[name]]
        yield found(
            # With no label in common, one of the two files has another column or another spelling.
            "error" if len(unseen) == len(places) else "warning",
            f"{split} has labels that training never sees, so they always count as wrong: {_listed(unseen)}",
            rows,
            remedy="mend the spelling, or add rows with them to train"
            + (f" ({'; '.join(hints[:3])})" if hints else ""),
        )


def _nearest(name: str, known: Iterable[str]) -> str | None:
    lowered = {other.lower(): other for other in known}
    match = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.8)
    return lowered[match[0]] if match else None


def _balance(
    train: Sequence[Example], places: Mapping[str, Sequence[str]], problem: ProblemName, names: Sequence[str]
) -> Iterator[Finding]:
    counts = {name: len(rows) for name, rows in places.items()}
    few = [name for name, count in counts.items() if count < FEWEST_EXAMPLES]
    if few:
        yield found(
            "warning",
            f"{len(few):,} of {len(counts):,} labels have fewer than {FEWEST_EXAMPLES} examples: "
            + _listed([f"{name} {counts[name]}" for name in few]),
            [places[name][0] for name in few],
            remedy="add examples, or join labels",
        )
    if len(counts) > MANY_CLASSES and 2 * len(counts) > len(train):
        yield found(
            "warning",
            f"{len(train):,} rows have {len(counts):,} different labels",
            [rows[0] for rows in places.values()],
            remedy="name another column with --label, or set task.problem=regression if they are amounts",
        )
    missing = [name for name in names if name not in counts]
    if missing:
        yield found(
            "warning", f"train has no row of {_listed(missing)}", remedy="add rows, or expect it never predicted"
        )
    yield _shares(counts, len(train), problem, train, names)


def _shares(
    counts: Mapping[str, int], num_rows: int, problem: ProblemName, train: Sequence[Example], names: Sequence[str]
) -> Finding:
    rare, common = min(counts, key=lambda name: counts[name]), max(counts, key=lambda name: counts[name])
    sentence = (
        f"{len(counts):,} labels, from {rare!r} ({counts[rare]:,} rows, {100 * counts[rare] / num_rows:.1f} %) "
        f"to {common!r} ({counts[common]:,} rows, {100 * counts[common] / num_rows:.1f} %)"
    )
    if counts[common] == counts[rare]:
        sentence = f"{len(counts):,} labels, {counts[rare]:,} rows each"
    unbalanced = counts[common] >= UNBALANCED * counts[rare]
    if problem != "classification":
        return found("note", sentence)
    weights = dict(zip(names, balanced_weights((example.label for example in train), names), strict=True))
    shown = [name for name in names if name in counts] if len(counts) <= NAMES_SHOWN else [rare, common]
    balanced = ", ".join(f"{name} {weights.get(name, 1.0):.2f}" for name in shown)
    remedy = f"task.class_weights=balanced would weigh them {balanced}"
    return found("warning" if unbalanced else "note", sentence, remedy=remedy)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (
        f" and {len(names) - NAMES_SHOWN:,} more" if len(names) > NAMES_SHOWN else ""
    )
