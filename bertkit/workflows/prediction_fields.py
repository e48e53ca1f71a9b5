"""What a prediction adds to a row: names and values of its fields, for every kind of problem."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bertkit.errors import ConfigError
from bertkit.tasks.problem import Prediction
from bertkit.tasks.spec import Example, ProblemName
from bertkit.tasks.table import BrokenRow

ERROR: Final = "error"
DIGITS: Final = 6
# By name, what a column of Parquet holds.
Types = Mapping[str, str]
FIELDS: Final[Mapping[ProblemName, Types]] = {
    "classification": {"prediction": "text", "probability": "number"},
    "regression": {"prediction": "number"},
    "multi_label": {"prediction": "texts", "probability": "numbers"},
    "tagging": {"prediction": "texts", "probability": "number"},
    "span_qa": {"prediction": "text", "probability": "number", "start": "integer", "end": "integer"},
    "multiple_choice": {"prediction": "integer", "probability": "number", "choice": "text"},
}
BY_LABEL: Final = ("classification", "multi_label")


@dataclass(frozen=True)
class AnsweredRow:
    """A row that was read and, where it could be used, what the model says of it."""

    row: Example | BrokenRow
    prediction: Prediction | None = None

    @property
    def columns(self) -> Mapping[str, Any]:
        """The row as it was read."""
        return self.row.columns


@dataclass(frozen=True)
class Fields:
    """The fields that are added to rows: `types` by name in the output, `names` of ours in the output.

    A name that the input has already is taken by the input: ours gets a number, prediction_2.
    """

    problem: ProblemName
    labels: tuple[str, ...]
    flat: bool
    with_probabilities: bool
    types: Types
    names: Mapping[str, str]

    @classmethod
    def of(
        cls,
        problem: ProblemName,
        labels: tuple[str, ...],
        taken: Iterable[str],
        *,
        flat: bool,
        with_probabilities: bool,
    ) -> "Fields":
        """The fields of a kind of problem beside columns `taken`; flat: one column for the probability of each label.

        Raises:
            ConfigError: probabilities of a number were asked for.
        """
        types = dict(FIELDS[problem])
        if with_probabilities:
            if problem == "regression":
                raise ConfigError("a model of regression has no probabilities: leave --probabilities out")
            by_label = flat and problem in BY_LABEL
            types |= {f"probability_{name}": "number" for name in labels} if by_label else {"probabilities": "json"}
        types[ERROR] = "text"
        names = _free_names(types, set(taken))
        renamed = {names[name]: kind for name, kind in types.items()}
        return cls(problem, labels, flat, with_probabilities, renamed, names)

    def of_row(self, answered: AnsweredRow) -> dict[str, Any]:
        """Names and values of the fields of one row; null where there is no prediction, `error` where there is one."""
        if answered.prediction is None or isinstance(answered.row, BrokenRow):
            return {**dict.fromkeys(self.types), self.names[ERROR]: str(answered.row)}
        values = VALUES[self.problem](answered.prediction, answered.row)
        if self.with_probabilities:
            values |= self._probabilities(answered.prediction)
        return {self.names[name]: value for name, value in values.items()}

    def _probabilities(self, prediction: Prediction) -> dict[str, Any]:
        every = prediction.details.get("probabilities", prediction.details.get("n_best"))
        if self.flat and self.problem in BY_LABEL:
            return {f"probability_{name}": every[name] for name in self.labels}
        return {"probabilities": every}


def _free_names(wanted: Iterable[str], taken: set[str]) -> dict[str, str]:
    """Ours by their names, or all with the lowest number that none of the input's has."""
    wanted, number, suffix = list(wanted), 1, ""
    while any(name + suffix in taken for name in wanted):
        number += 1
        suffix = f"_{number}"
    return {name: name + suffix for name in wanted}


def _one(prediction: Prediction, _: Example) -> dict[str, Any]:
    return {"prediction": prediction.value, "probability": _rounded(prediction.probability)}


def _number(prediction: Prediction, _: Example) -> dict[str, Any]:
    return {"prediction": prediction.value}


def _labels(prediction: Prediction, _: Example) -> dict[str, Any]:
    every = prediction.details["probabilities"]
    return {"prediction": list(prediction.value), "probability": [every[name] for name in prediction.value]}


def _tags(prediction: Prediction, _: Example) -> dict[str, Any]:
    return {"prediction": list(prediction.value), "probability": _rounded(prediction.probability)}


def _answer(prediction: Prediction, example: Example) -> dict[str, Any]:
    # No answer is nowhere, though the best span is somewhere.
    start, end = (prediction.details["start"], prediction.details["end"]) if prediction.value else (None, None)
    return _one(prediction, example) | {"start": start, "end": end}


def _choice(prediction: Prediction, example: Example) -> dict[str, Any]:
    return _one(prediction, example) | {"choice": example.texts[1 + prediction.value]}


VALUES: Final[Mapping[ProblemName, Callable[[Prediction, Example], dict[str, Any]]]] = {
    "classification": _one,
    "regression": _number,
    "multi_label": _labels,
    "tagging": _tags,
    "span_qa": _answer,
    "multiple_choice": _choice,
}


def _rounded(probability: float | None) -> float | None:
    return None if probability is None else round(probability, DIGITS)


def cell_joiner(problem: ProblemName, labels: Sequence[str]) -> str | None:
    """What stands between the labels of one cell; None where a list of JSON must, for a label looks like several."""
    is_plain = all(not set("|;") & set(name) and name == name.strip() and name[:1] != "[" for name in labels)
    return "|" if problem == "multi_label" and is_plain else None


def as_json(value: Any) -> str:
    """A value on one line; what JSON has no word for, such as a date, as text."""
    return json.dumps(value, ensure_ascii=False, default=str)
