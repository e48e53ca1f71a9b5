"""Labels that have a form to keep: tags in a sequence, answers in a context, the right one of several choices."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from bertkit.tasks.conll import Scheme, detect_scheme
from bertkit.tasks.findings import Finding, Severity, count_in_words, found
from bertkit.tasks.spec import Answer, Example

ENTITY_TAG: Final = re.compile(r"([BIESLMU])-(.+)", re.DOTALL)
OPENS: Final = frozenset("BIM")
CONTINUES: Final = frozenset("IEML")
FEWEST_CHOICES: Final = 2


def check_tags(splits: Mapping[str, Sequence[Example]]) -> Iterator[Finding]:
    """One tag a word, one scheme in all splits, and sequences that keep its rules."""
    schemes: dict[Scheme, list[str]] = {}
    for split, examples in splits.items():
        yield from _tag_counts(examples, split)
        sequences = [(example, _tags(example)) for example in examples]
        scheme = detect_scheme([tags for _, tags in sequences])
        if any(tag != "O" for _, tags in sequences for tag in tags):
            schemes.setdefault(scheme, []).append(split)
        broken = [f"{e.place} {fault}" for e, tags in sequences if (fault := first_broken_rule(tags, scheme))]
        if broken:
            yield found(
                "warning",
                f"{count_in_words(len(broken), len(examples), 'sentence')} of {split} break the rules of {scheme}",
                broken,
                remedy="mend the tags; until then such a tag starts an entity of its own",
            )
    yield from _scheme(schemes)


def first_broken_rule(tags: Sequence[str], scheme: Scheme) -> str:
    """The first tag that cannot stand where it does, and its word's number, from 1; empty where there is none.

    IOB2: I- after another type or O. IOBES: an entity that ends without E-, or goes on without a start. IOB1 takes any.
    """
    if scheme in ("IOB1", "none"):
        return ""
    before = ("", "")
    for number, tag in enumerate((*tags, "O"), start=1):
        match = ENTITY_TAG.fullmatch(tag)
        now = (match[1], match[2]) if match else ("", "")
        if _is_broken(before, now, scheme):
            return f"word {number} {tag}" if number <= len(tags) else f"word {number - 1} {tags[-1]} at the end"
        before = now
    return ""


def _is_broken(before: tuple[str, str], now: tuple[str, str], scheme: Scheme) -> bool:
    same = before[1] == now[1]
    if scheme == "IOB2":
        return now[0] == "I" and not same
    is_open = before[0] in OPENS
    goes_on = now[0] in CONTINUES
    # BMES writes M where IOBES writes I, BILOU writes L for E and U for S.
    return is_open != goes_on or (goes_on and not same)


def _tags(example: Example) -> tuple[str, ...]:
    label = example.label if isinstance(example.label, tuple) else ()
    return tuple(tag for tag in label if isinstance(tag, str))


def _tag_counts(examples: Sequence[Example], split: str) -> Iterator[Finding]:
    uneven = [
        f"{example.place} with {len(example.texts)} words and {len(_tags(example))} tags"
        for example in examples
        if example.label is not None and len(_tags(example)) != len(example.texts)
    ]
    if uneven:
        yield found(
            "error",
            f"{count_in_words(len(uneven), len(examples), 'sentence')} of {split} have not one tag a word",
            uneven,
            remedy="give every word its tag, O where it has none",
        )


def _scheme(schemes: Mapping[Scheme, Sequence[str]]) -> Iterator[Finding]:
    if len(schemes) == 1:
        (scheme,) = schemes
        what = "mark single words, not entities" if scheme == "none" else f"follow {scheme}"
        yield found("note", f"tags {what}")
    elif schemes:
        told = "; ".join(f"{', '.join(splits)} in {scheme}" for scheme, splits in schemes.items())
        yield found("warning", f"tags are in different schemes: {told}", remedy="write them in one, such as IOB2")


def check_answers(examples: Sequence[Example], *, split: str) -> Iterator[Finding]:
    """Answers that stand where they say, and the share of questions that have none."""
    pairs = [(example, answer) for example in examples for answer in _answers(example)]
    wrong = [f"{example.place} {fault}" for example, answer in pairs if (fault := _answer_fault(example, answer))]
    if wrong:
        yield found(
            "error" if split == "train" else "warning",
            f"{count_in_words(len(wrong), len(pairs), 'answer')} of {split} do not stand where their start says",
            wrong,
            remedy="count answer_start in characters of the context, from 0, or remove the question",
        )
    without = [example.place for example in examples if example.label == ()]
    if without and len(without) == len(examples):
        yield found(
            "error" if split == "train" else "warning",
            f"no question of {split} has an answer",
            without,
            remedy="name the column of the answers with --label",
        )
    elif without:
        share = 100 * len(without) / len(examples)
        yield found(
            "note",
            f"{count_in_words(len(without), len(examples), 'question')} of {split} ({share:.1f} %) have no answer, "
            "as in SQuAD 2.0",
        )


def _answers(example: Example) -> tuple[Answer, ...]:
    label = example.label if isinstance(example.label, tuple) else ()
    return tuple(answer for answer in label if isinstance(answer, Answer))


def _answer_fault(example: Example, answer: Answer) -> str:
    context = example.texts[1]
    if not answer.text.strip():
        return "has an empty answer"
    if answer.start >= 0 and context.startswith(answer.text, answer.start):
        return ""
    elsewhere = context.find(answer.text)
    shown = answer.text if len(answer.text) <= 30 else answer.text[:27] + "..."
    where = f"at {elsewhere}, not at {answer.start}" if elsewhere >= 0 else "nowhere in the context"
    return f"{shown!r} {where}"


def check_choices(examples: Sequence[Example], *, split: str) -> Iterator[Finding]:
    """Two choices or more, all different, the right one among them."""
    sizes = {example.place: len(example.texts) - 1 for example in examples}
    few = [place for place, size in sizes.items() if size < FEWEST_CHOICES]
    yield from _rows(
        "error", few, examples, f"of {split} have fewer than two choices", "add choices, or remove the row"
    )
    yield from _labels_in_range(examples, split)
    empty = [e.place for e in examples if any(not choice.strip() for choice in e.texts[1:])]
    yield from _rows("warning", empty, examples, f"of {split} have an empty choice", "fill it in, or remove the row")
    equal = [e.place for e in examples if len(set(e.texts[1:])) < len(e.texts) - 1]
    what = f"of {split} have two choices that are the same"
    yield from _rows("warning", equal, examples, what, "change one, or the answer is a matter of chance")
    if len(set(sizes.values())) > 1:
        numbers = ", ".join(map(str, sorted(set(sizes.values()))))
        yield found("note", f"rows of {split} have different numbers of choices: {numbers}")


def _labels_in_range(examples: Sequence[Example], split: str) -> Iterator[Finding]:
    labelled = [(example, example.label) for example in examples if isinstance(example.label, int)]
    outside = [
        f"{example.place} says {label} of {len(example.texts) - 1}"
        for example, label in labelled
        if not 0 <= label < len(example.texts) - 1
    ]
    from_one = bool(outside) and min(label for _, label in labelled) == 1
    remedy = "choices count from 0" + (", and here they seem to count from 1: take 1 from each" if from_one else "")
    what = f"of {split} call a choice right that is not there"
    yield from _rows("error", outside, examples, what, f"mend the label: {remedy}")


def _rows(
    severity: Severity, places: Sequence[str], examples: Sequence[Example], what: str, remedy: str
) -> Iterator[Finding]:
    if places:
        yield found(severity, f"{count_in_words(len(places), len(examples))} {what}", places, remedy=remedy)
