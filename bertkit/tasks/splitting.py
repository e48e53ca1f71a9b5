"""A part of the examples set aside to be scored: seeded, every class on both sides, equal texts on the same one."""

import logging
import random
from collections import defaultdict
from collections.abc import Sequence

from bertkit.errors import TaskError
from bertkit.tasks.spec import Example, ProblemName

logger = logging.getLogger(__name__)

# The indices of examples that stay together.
Group = list[int]


def split_examples(
    examples: Sequence[Example], problem: ProblemName, *, share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Examples to train on and about `share` of them to score, in their old order; a pure function of its arguments.

    Examples with the same texts (span_qa: the same context) stay on one side. Classes keep their shares, and every
    class with two texts or more is on both sides.

    Raises:
        TaskError: the share is none, or there are too few texts to share out.
    """
    if not 0 < share < 1:
        raise TaskError(f"the share of examples to score is {share}: give one between 0 and 1, such as 0.1")
    groups = _groups(examples, problem)
    if len(groups) < 2:
        raise TaskError(
            f"{len(examples):,} examples with {len(groups)} different text cannot be shared out: "
            "add examples, or give a file to score with --eval"
        )
    chosen: set[int] = set()
    strata = _strata(examples, groups, problem)
    for name, members in sorted(strata.items()):
        order = list(members)
        random.Random(f"{seed}:{name}").shuffle(order)
        chosen.update(_take(order, share))
    if not chosen:
        # Every class has one text alone: classes cannot be on both sides.
        order = sorted(groups)
        random.Random(f"{seed}").shuffle(order)
        chosen.update(_take(order, share))
    _log(examples, chosen, problem, share=share, seed=seed, num_strata=len(strata))
    train = [example for number, example in enumerate(examples) if number not in chosen]
    return train, [example for number, example in enumerate(examples) if number in chosen]


def _groups(examples: Sequence[Example], problem: ProblemName) -> list[Group]:
    groups: dict[tuple[str, ...], Group] = defaultdict(list)
    for number, example in enumerate(examples):
        # A context seen in training gives away the answers of its other questions.
        groups[example.texts[1:] if problem == "span_qa" else example.texts].append(number)
    return list(groups.values())


def _strata(examples: Sequence[Example], groups: Sequence[Group], problem: ProblemName) -> dict[str, list[Group]]:
    strata: dict[str, list[Group]] = defaultdict(list)
    by_label = problem in ("classification", "multi_label")
    for group in groups:
        strata[repr(examples[group[0]].label) if by_label else ""].append(group)
    if problem != "multi_label":
        return strata
    # Sets of labels that are met once go together: alone they could be on one side only.
    merged: dict[str, list[Group]] = defaultdict(list)
    for name, members in strata.items():
        merged[name if len(members) > 1 else ""].extend(members)
    return merged


def _take(order: Sequence[Group], share: float) -> Group:
    """Whole groups up to about `share` of their examples, at least one of two and never all."""
    wanted = share * sum(map(len, order))
    taken: Group = []
    for group in order[:-1]:
        if taken and abs(len(taken) + len(group) - wanted) >= abs(len(taken) - wanted):
            break
        taken.extend(group)
    return taken


def _log(
    examples: Sequence[Example], chosen: set[int], problem: ProblemName, *, share: float, seed: int, num_strata: int
) -> None:
    how = f", each of {num_strata:,} classes with its share" if problem == "classification" else ""
    together = "questions of one context" if problem == "span_qa" else "equal texts"
    logger.info(
        "%s",
        f"no file to score was given: of {len(examples):,} examples {len(chosen):,} are set aside to be scored "
        f"({100 * share:g} % asked for, seed {seed}){how}; {together} stay on one side",
    )
