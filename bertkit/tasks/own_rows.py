"""One row of the user's own file as an example, for every kind of problem."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from bertkit.tasks.columns import Columns
from bertkit.tasks.label_values import (
    RowError,
    choice_number,
    chosen_labels,
    class_name,
    is_missing,
    label_set,
    number,
    shown,
)
from bertkit.tasks.spec import Answer, Example, Label, ProblemName
from bertkit.tasks.table import BrokenRow, TableRow, kind_of

# Where a list of answers gives no start, and the text is not there: the check says so.
NOWHERE: Final = -1


def example_of(row: TableRow, problem: ProblemName, columns: Columns, *, with_labels: bool) -> Example | BrokenRow:
    """The example that a row means; columns are complete.

    with_labels: a label that cannot be read breaks the row; otherwise it is None.
    """
    try:
        texts = TEXTS[problem](row.columns, columns)
        label = _label(row, texts, problem, columns, with_labels=with_labels)
        key = row.columns.get(columns.key) if columns.key is not None else None
    except RowError as fault:
        return BrokenRow(row.place, str(fault), row.columns)
    return Example(row.place if is_missing(key) else str(key), row.place, texts, label, row.columns)


def label_cell(row: Mapping[str, Any], columns: Columns) -> Any:
    """The value of the label's column; raises RowError where the row has none."""
    return _cell(row, columns.label_columns(row)[0])


def _label(
    row: TableRow, texts: Sequence[str], problem: ProblemName, columns: Columns, *, with_labels: bool
) -> Label | None:
    if columns.label is None:
        return None
    try:
        return LABELS[problem](row.columns, columns, texts)
    except RowError:
        if with_labels:
            raise
        return None


def _cell(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise RowError(f"has no {column!r}, which other rows have: add it")
    return row[column]


def _text(row: Mapping[str, Any], column: str) -> str:
    """A cell of text; null is empty, which the check tells."""
    value = _cell(row, column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowError(f"has {kind_of(value)} in the text column {column!r}: write text, or name another column")
    return value


def _plain_texts(row: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    return tuple(_text(row, column) for column in columns.texts)


def _words(row: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    return _strings(_cell(row, columns.texts[0]), columns.texts[0])


def _strings(value: Any, column: str) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise RowError(f'has {kind_of(value)} in {column!r}: write a list, such as ["Rome", "fell"]')
    strange = next((item for item in value if not isinstance(item, str)), None)
    if strange is not None or None in value:
        raise RowError(f"has {kind_of(strange)} in the list {column!r}: write every item as text")
    return tuple(value)


def _context_and_choices(row: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    context, *shared = _plain_texts(row, columns)
    choices = _choices(row, columns)
    # SWAG: every ending continues the same second sentence.
    return (context, *(f"{shared[0]} {choice}" if shared else choice for choice in choices))


def _choices(row: Mapping[str, Any], columns: Columns) -> tuple[str, ...]:
    first = row.get(columns.choices[0])
    if len(columns.choices) > 1 or isinstance(first, str):
        return tuple(_text(row, column) for column in columns.choices)
    value = _cell(row, columns.choices[0])
    if isinstance(value, dict):
        value = value.get("text")
    return _strings(value, columns.choices[0])


def _class(row: Mapping[str, Any], columns: Columns, _: Sequence[str]) -> Label | None:
    return class_name(label_cell(row, columns))


def _number(row: Mapping[str, Any], columns: Columns, _: Sequence[str]) -> Label | None:
    return number(label_cell(row, columns))


def _label_set(row: Mapping[str, Any], columns: Columns, _: Sequence[str]) -> Label | None:
    names = columns.label_columns(row)
    if len(names) > 1:
        return chosen_labels({name: _cell(row, name) for name in names})
    return label_set(label_cell(row, columns), columns.separator)


def _tags(row: Mapping[str, Any], columns: Columns, _: Sequence[str]) -> Label | None:
    value = label_cell(row, columns)
    if value is None:
        return None
    # Data sets of the Hub write tags as numbers.
    ids = isinstance(value, list | tuple) and all(isinstance(tag, int) for tag in value)
    return _strings([str(tag) for tag in value] if ids else value, str(columns.label))


def _choice(row: Mapping[str, Any], columns: Columns, _: Sequence[str]) -> Label | None:
    return choice_number(label_cell(row, columns))


def _answers(row: Mapping[str, Any], columns: Columns, texts: Sequence[str]) -> Label | None:
    start = None if columns.answer_start is None else row.get(columns.answer_start)
    value, starts = _texts_and_starts(label_cell(row, columns), start)
    if is_missing(value):
        return ()
    answers = [value] if isinstance(value, str) else _strings(value, str(columns.label))
    places = list(starts) if isinstance(starts, list | tuple) else [starts] * len(answers)
    if len(places) != len(answers):
        raise RowError(f"has {len(answers)} answers and {len(places)} starts: give one start an answer")
    return tuple(Answer(text, _start(text, start, texts[1])) for text, start in zip(answers, places, strict=True))


def _texts_and_starts(value: Any, start: Any) -> tuple[Any, Any]:
    """The answers and where they start: beside each other, as an answer of lists, or as a list of answers."""
    if isinstance(value, Mapping):
        return value.get("text"), value.get("answer_start")
    if isinstance(value, list | tuple) and all(isinstance(item, Mapping) for item in value):
        return [item.get("text") for item in value], [item.get("answer_start") for item in value]
    return value, start


def _start(text: str, start: Any, context: str) -> int:
    if is_missing(start):
        return context.find(text) if text else NOWHERE
    try:
        return int(start)
    except (TypeError, ValueError, OverflowError):
        raise RowError(f"has {shown(start)} for the start of an answer: write a whole number, from 0") from None


TEXTS: Final[Mapping[ProblemName, Callable[[Mapping[str, Any], Columns], tuple[str, ...]]]] = {
    "classification": _plain_texts,
    "regression": _plain_texts,
    "multi_label": _plain_texts,
    "tagging": _words,
    "span_qa": _plain_texts,
    "multiple_choice": _context_and_choices,
}
LABELS: Final[Mapping[ProblemName, Callable[[Mapping[str, Any], Columns, Sequence[str]], Label | None]]] = {
    "classification": _class,
    "regression": _number,
    "multi_label": _label_set,
    "tagging": _tags,
    "span_qa": _answers,
    "multiple_choice": _choice,
}
