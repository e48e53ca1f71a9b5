"""SQuAD's nested JSON, 1.1 and 2.0, and the flat rows that the Hub makes of it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bertkit.errors import TaskError
from bertkit.tasks.spec import Answer, Example
from bertkit.tasks.text_files import read_text, require_encodable

LAYOUT: Final = "SQuAD nests data > paragraphs > (context, qas) > (id, question, answers) > (text, answer_start)"
KINDS: Final = {list: "list", dict: "object", str: "string", int: "whole number"}


def read_squad(path: Path) -> list[Example]:
    """The questions of a file, each with its context: no answers where it has none (2.0), None where none are given.

    Raises:
        TaskError: the file is no JSON, is built in another way than SQuAD's, or gives an id twice.
    """
    name = path.name
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise TaskError(
            f"{path} is no JSON at line {error.lineno}, column {error.colno} ({error.msg}): mend it there, "
            "or download the file again"
        ) from error
    except (RecursionError, ValueError) as error:
        raise TaskError(f"{path} is nested too deep, or has too long a number, to be SQuAD's: {LAYOUT}") from error
    examples = list(_nested_examples(content, name))
    if not examples:
        raise TaskError(f"{name} has no questions: {LAYOUT}")
    return _unique(examples)


def squad_rows(rows: Iterable[Mapping[str, Any]], *, name: str) -> list[Example]:
    """The questions of flat rows: id, context, question, and answers with lists of text and answer_start.

    Raises:
        TaskError: a row is built in another way, or gives an id twice.
    """
    return _unique([_example(row, _field(row, "context", str, f"{name}: row {n}"), name) for n, row in enumerate(rows)])


def _nested_examples(content: Any, name: str) -> Iterator[Example]:
    for i, article in enumerate(_field(content, "data", list, name)):
        at_article = f"{name}: data[{i}]"
        for j, paragraph in enumerate(_field(article, "paragraphs", list, at_article)):
            at_paragraph = f"{at_article}.paragraphs[{j}]"
            context = _field(paragraph, "context", str, at_paragraph)
            for k, question in enumerate(_field(paragraph, "qas", list, at_paragraph)):
                _field(question, "id", str, f"{at_paragraph}.qas[{k}]")
                yield _example(question, context, name)


def _example(question: Mapping[str, Any], context: str, name: str) -> Example:
    key = _field(question, "id", str, name)
    place = f"{name}: question {key}"
    text = _field(question, "question", str, place)
    return Example(key=key, place=place, texts=(text, context), label=_answers(question, place))


def _answers(question: Mapping[str, Any], place: str) -> tuple[Answer, ...] | None:
    if question.get("is_impossible") is True:
        return ()
    answers = question.get("answers")
    if answers is None:
        return None
    if isinstance(answers, dict):
        # The Hub turns a list of answers into an answer of lists.
        texts, starts = _field(answers, "text", list, place), _field(answers, "answer_start", list, place)
        if len(texts) != len(starts):
            raise TaskError(f"{place} has {len(texts)} texts and {len(starts)} starts: give one answer_start a text")
        answers = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
    answers = _field({"answers": answers}, "answers", list, place)
    return tuple(
        Answer(_field(answer, "text", str, place), _field(answer, "answer_start", int, place)) for answer in answers
    )


def _field(holder: Any, name: str, kind: type, place: str) -> Any:
    """One field of an object; the error says what is missing where."""
    if not isinstance(holder, Mapping):
        raise TaskError(f"{place} is a {type(holder).__name__} and no object with {name!r}: {LAYOUT}")
    if name not in holder:
        raise TaskError(f"{place} has no {name!r}: {LAYOUT}")
    value = holder[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TaskError(f"{place}: {name!r} is no {KINDS[kind]} but {str(value)[:40]!r}: {LAYOUT}")
    if isinstance(value, str):
        require_encodable(value, place=place)
    return value


def _unique(examples: list[Example]) -> list[Example]:
    seen: set[str] = set()
    for example in examples:
        if example.key in seen:
            raise TaskError(f"{example.place}: its id is given twice: predictions are told apart by id, so change one")
        seen.add(example.key)
    return examples
