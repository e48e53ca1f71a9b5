"""What is wrong with labelled examples, before anything runs: one sentence each, with rows and remedy."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from bertkit.data.texts import TextEncoder
from bertkit.tasks.check_forms import check_answers, check_choices, check_tags
from bertkit.tasks.check_labels import balanced_weights as balanced_weights
from bertkit.tasks.check_labels import check_names, check_numbers
from bertkit.tasks.check_lengths import check_lengths, measure
from bertkit.tasks.check_rows import check_leakage, check_rows
from bertkit.tasks.findings import Finding as Finding
from bertkit.tasks.findings import Lengths, found
from bertkit.tasks.findings import Report as Report
from bertkit.tasks.label_values import label_names
from bertkit.tasks.spec import Example, ProblemName

ORDER = ("error", "warning", "note")


def check_examples(
    train: Sequence[Example],
    evaluate: Mapping[str, Sequence[Example]],
    problem: ProblemName,
    *,
    encoder: TextEncoder | None = None,
    max_seq_length: int = 128,
    labels: Sequence[str] = (),
) -> Report:
    """Look through examples to train on and, by split, to score.

    encoder: counts tokens; None leaves lengths out. labels: the names a task has; those of `train` where it has none.
    """
    names = tuple(labels) or label_names(train, problem)
    splits = {"train": train, **evaluate}
    findings = list(_findings(train, evaluate, problem, names))
    findings.extend(
        found("error", f"{split} has no examples", remedy="give a file with one row an example")
        for split, examples in splits.items()
        if not examples
    )
    lengths: Lengths | None = None
    if encoder is not None and train:
        lengths = measure(train, problem, encoder, max_seq_length=max_seq_length)
        findings.extend(check_lengths(lengths, problem, max_seq_length=max_seq_length))
    weights = balanced_weights((example.label for example in train), names) if problem == "classification" else None
    ordered = sorted(findings, key=lambda finding: ORDER.index(finding.severity))
    return Report(tuple(ordered), names, weights, lengths)


def _findings(
    train: Sequence[Example], evaluate: Mapping[str, Sequence[Example]], problem: ProblemName, names: Sequence[str]
) -> Iterator[Finding]:
    splits = {"train": train, **evaluate}
    for split, examples in splits.items():
        yield from check_rows(examples, problem, split=split)
    for split, examples in evaluate.items():
        yield from check_leakage(train, examples, problem, split=split)
    if names or problem in ("classification", "multi_label", "tagging"):
        yield from check_names(train, evaluate, problem, names)
    if problem == "regression":
        yield from chain.from_iterable(check_numbers(examples, split=split) for split, examples in splits.items())
    if problem == "tagging":
        yield from check_tags(splits)
    if problem == "span_qa":
        yield from chain.from_iterable(check_answers(examples, split=split) for split, examples in splits.items())
    if problem == "multiple_choice":
        yield from chain.from_iterable(check_choices(examples, split=split) for split, examples in splits.items())
