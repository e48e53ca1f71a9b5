"""From the JSON of one input to an example: a string or an object, as the kind of problem has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bertkit.errors import nearest
from bertkit.tasks.spec import Example, ProblemName
from bertkit.tasks.table import text_fault
from bertkit.workflows.serve.asked import RequestError

# An example of choices is one row of the batch for each.
MOST_CHOICES: Final = 32
PAIR: Final = ("text", "text_pair")
# Of a name that a request has and should not.
SHOWN_CHARS: Final = 60


@dataclass(frozen=True)
class Form:
    """The fields of an input, of which `needed` must be given; a string alone stands for the field `text`."""

    fields: tuple[str, ...]
    needed: tuple[str, ...]

    def values(self, value: Any, where: str) -> dict[str, Any]:
        """The fields of one input by name.

        Raises:
            RequestError: it is none of this form; names the field.
        """
        if isinstance(value, str) and self.needed in ((), ("text",)):
            return {"text": value}
        if not isinstance(value, dict):
            alone = "a string or " if self.needed in ((), ("text",)) else ""
            raise RequestError(f"{where} must be {alone}an object with {_and(self.needed or self.fields)}")
        for name in value:
            if name not in self.fields:
                hint = nearest(name, self.fields) or f": it takes {_and(self.fields)}"
                raise RequestError(f"{where} has an unknown field '{name[:SHOWN_CHARS]}'{hint}")
        for name in self.needed:
            if name not in value:
                raise RequestError(f"{where}.{name} is missing")
        return value


def form_of(problem: ProblemName, names: Sequence[str]) -> Form:
    """The form of a problem's inputs; `names` are those of its texts, where the model says them."""
    if problem == "tagging":
        return Form(("text", "tokens"), ())
    if problem == "span_qa":
        return Form(("question", "context"), ("question", "context"))
    if problem == "multiple_choice":
        return Form(("context", "choices"), ("context", "choices"))
    if len(names) == 2:
        return Form((names[0], names[1]), (names[0], names[1]))
    return Form(("text",), ("text",)) if names else Form(PAIR, ("text",))


def read_example(problem: ProblemName, form: Form, value: Any, where: str) -> Example:
    """One input as an example.

    Raises:
        RequestError: it is not of the form, or there is nothing to read in it; names the field.
    """
    # What transformers calls the two texts of a pair is understood whatever the task calls them.
    if isinstance(value, dict) and set(value) == set(PAIR) and len(form.needed) == 2 and problem not in _OTHERS:
        value = dict(zip(form.needed, (value["text"], value["text_pair"]), strict=True))
    values = form.values(value, where)
    texts = _OTHERS[problem](values, where) if problem in _OTHERS else _plain(form, values, where)
    return Example(where, where, texts)


def _plain(form: Form, values: Mapping[str, Any], where: str) -> tuple[str, ...]:
    return tuple(require_text(values[name], f"{where}.{name}") for name in form.fields if values.get(name) is not None)


def _words(values: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if len(values) != 1:
        raise RequestError(f"{where} must have either text or tokens")
    if "text" in values:
        return tuple(require_text(values["text"], f"{where}.text").split())
    tokens = values["tokens"]
    if not isinstance(tokens, list) or not tokens:
        raise RequestError(f"{where}.tokens must be a list of words")
    return tuple(require_text(token, f"{where}.tokens[{number}]") for number, token in enumerate(tokens))


def _question(values: Mapping[str, Any], where: str) -> tuple[str, ...]:
    return tuple(require_text(values[name], f"{where}.{name}") for name in ("question", "context"))


def _choices(values: Mapping[str, Any], where: str) -> tuple[str, ...]:
    choices = values["choices"]
    if not isinstance(choices, list) or not 2 <= len(choices) <= MOST_CHOICES:
        raise RequestError(f"{where}.choices must be a list of 2 to {MOST_CHOICES} texts")
    # What goes before the choices may be nothing at all.
    context = require_text(values["context"], f"{where}.context", or_blank=True)
    return (context, *(require_text(choice, f"{where}.choices[{number}]") for number, choice in enumerate(choices)))


_OTHERS: Final = {"tagging": _words, "span_qa": _question, "multiple_choice": _choices}


def require_text(value: Any, where: str, *, or_blank: bool = False) -> str:
    """The value, which is a text with something in it.

    Raises:
        RequestError: it is not; names the field.
    """
    if not isinstance(value, str):
        raise RequestError(f"{where} must be a string")
    if fault := text_fault(value):
        raise RequestError(f"{where} {fault}")
    if not or_blank and not value.strip():
        raise RequestError(f"{where} is empty")
    return value


def _and(names: Sequence[str]) -> str:
    return " and ".join(names)
