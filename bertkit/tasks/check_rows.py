"""Rows that are empty, twice there, or on both sides of a split."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Final

from bertkit.tasks.findings import Finding, count_in_words, found
from bertkit.tasks.spec import Example, ProblemName

# More numbers than this among the texts: another column was meant.
NUMBERS_SHARE: Final = 0.5


def check_rows(examples: Sequence[Example], problem: ProblemName, *, split: str) -> Iterator[Finding]:
    """Empty texts and labels, numbers for texts, ids and rows that are there twice."""
    yield from _empty_texts(examples, problem, split)
    yield from _empty_labels(examples, split)
    if problem in ("classification", "regression", "multi_label"):
        yield from _numbers(examples, split)
    yield from _same_keys(examples, split)
    yield from _duplicates(examples, split)


def check_leakage(
    train: Sequence[Example], examples: Sequence[Example], problem: ProblemName, *, split: str
) -> Iterator[Finding]:
    """Texts that are trained on and scored."""
    seen = {example.texts: example.place for example in reversed(train)}
    shared = [example for example in examples if example.texts in seen]
    if shared:
        yield found(
            "warning",
            f"{count_in_words(len(shared), len(examples))} of {split} have the texts of a row that is trained on, "
            "so scores will be too high",
            [f"{example.place} as {seen[example.texts]}" for example in shared],
            remedy="remove them from one of the two files",
        )
    if problem == "span_qa":
        contexts = {example.texts[1:] for example in train}
        known = [example.place for example in examples if example.texts[1:] in contexts and example.texts not in seen]
        if known:
            yield found(
                "note",
                f"{count_in_words(len(known), len(examples), 'question')} of {split} are about a context that is "
                "trained on",
                known,
                remedy="split by context for a score that holds for new ones",
            )


def _empty_texts(examples: Sequence[Example], problem: ProblemName, split: str) -> Iterator[Finding]:
    # Choices have a check of their own.
    parts = {"multiple_choice": slice(0, 1)}.get(problem, slice(None))
    empty = [e.place for e in examples if not e.texts or any(not text.strip() for text in e.texts[parts])]
    if empty:
        word = {"tagging": "an empty word, or no word at all"}.get(problem, "an empty text")
        yield found(
            "error" if len(empty) == len(examples) else "warning",
            f"{count_in_words(len(empty), len(examples))} of {split} have {word}",
            empty,
            remedy="fill it in, remove the row, or name another column with --text",
        )


def _empty_labels(examples: Sequence[Example], split: str) -> Iterator[Finding]:
    empty = [example.place for example in examples if example.label is None or "" in _tags(example)]
    if empty:
        yield found(
            "error",
            f"{count_in_words(len(empty), len(examples))} of {split} have no label",
            empty,
            remedy="fill it in or remove the row, or name another column with --label",
        )


def _tags(example: Example) -> Sequence[object]:
    return example.label if isinstance(example.label, tuple) else ()


def _numbers(examples: Sequence[Example], split: str) -> Iterator[Finding]:
    numeric = [example.place for example in examples if example.texts and _is_number(example.texts[0])]
    if len(numeric) > NUMBERS_SHARE * len(examples):
        yield found(
            "warning",
            f"{count_in_words(len(numeric), len(examples))} of {split} have a number for a text",
            numeric,
            remedy="if that is not what is meant, name the column with --text",
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _same_keys(examples: Sequence[Example], split: str) -> Iterator[Finding]:
    repeated = _repeated((example.key, example) for example in examples)
    if repeated:
        yield found(
            "warning",
            f"{len(repeated):,} ids of {split} stand for several rows, such as {repeated[0][0].key!r}",
            [example.place for rows in repeated for example in rows],
            remedy="give every row an id of its own, or predictions cannot be told apart",
        )


def _duplicates(examples: Sequence[Example], split: str) -> Iterator[Finding]:
    conflicting: list[list[Example]] = []
    equal: list[list[Example]] = []
    for rows in _repeated((example.texts, example) for example in examples):
        # NaN is never equal to itself, its representation is.
        (equal if len({repr(row.label) for row in rows}) == 1 else conflicting).append(rows)
    if conflicting:
        yield found(
            "warning",
            f"the same texts have different labels in {split}, {len(conflicting):,} times",
            [" and ".join(row.place + _short(row.label) for row in rows[:3]) for rows in conflicting],
            remedy="decide on one label and remove the other rows",
        )
    if equal:
        later = {id(row) for rows in equal for row in rows[1:]}
        copies = [example.place for example in examples if id(example) in later]
        yield found(
            "warning",
            f"{count_in_words(len(copies), len(examples))} of {split} repeat an earlier one, texts and label",
            copies,
            remedy="remove them, unless they are meant to weigh more",
        )


def _short(label: object) -> str:
    """A label beside its row; tags and answers would fill the line."""
    return f" {label!r}" if isinstance(label, str | int | float) else ""


def _repeated(pairs: Iterable[tuple[Hashable, Example]]) -> list[list[Example]]:
    rows: dict[Hashable, list[Example]] = defaultdict(list)
    for key, example in pairs:
        rows[key].append(example)
    return [members for members in rows.values() if len(members) > 1]
