"""What the lines of `predictions.jsonl` look like, by kind of problem."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, InstanceOf, model_validator

# Half of a character, which a text may hold, is none that pydantic reads.
_Text = InstanceOf[str]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Row(BaseModel, extra="allow", strict=True, allow_inf_nan=False):
    split: _Text
    key: Any
    prediction: Any
    label: Any
    probability: _Share | None = None
    columns: dict[_Text, Any] = {}
    texts: list[_Text] = []


class _Label(_Row):
    prediction: _Text | int | float | bool
    label: _Text | int | float | bool
    probabilities: dict[_Text, _Share] = {}


class _Number(_Row):
    prediction: float
    label: float


class _Labels(_Row):
    prediction: list[_Text]
    label: list[_Text]
    probabilities: dict[_Text, _Share]


class _Tags(_Row):
    prediction: list[_Text]
    label: list[_Text]
    probabilities: list[_Share] | None = None

    @model_validator(mode="after")
    def _pair(self) -> "_Tags":
        sizes = {len(each) for each in (self.label, self.prediction, self.probabilities) if each is not None}
        if len(sizes) > 1:
            raise ValueError("tags and probabilities do not pair")
        return self


class _Span(BaseModel, strict=True):
    text: _Text
    start: int


class _Answers(_Row):
    prediction: _Text
    label: list[_Span]
    start: int = 0
    end: int = 0
    best_span: _Text = ""
    null_score_difference: float = 0.0


class _Choice(_Row):
    prediction: Annotated[int, Field(ge=0)]
    label: Annotated[int, Field(ge=0)]
    probabilities: list[_Share] = []


_ROWS: Final[Mapping[str, type[_Row]]] = {
    "classification": _Label,
    "regression": _Number,
    "multi_label": _Labels,
    "tagging": _Tags,
    "span_qa": _Answers,
    "multiple_choice": _Choice,
}


def check_row(row: Any, problem: str) -> None:
    """Refuses a line that nobody could score or show.

    Raises:
        ValueError: a value is missing, of another kind, or no number that can be (a pydantic.ValidationError).
    """
    _ROWS[problem].model_validate(row)
