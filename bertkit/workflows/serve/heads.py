"""A fine-tuned model that answers: the same fields as `bertkit predict --probabilities` writes."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from bertkit.tasks.problem import Prediction
from bertkit.tasks.scoring.chunks import has_chunk_tags
from bertkit.tasks.spec import Example
from bertkit.workflows.finetuned import Finetuned
from bertkit.workflows.prediction_fields import AnsweredRow, Fields
from bertkit.workflows.serve.asked import Answer, Asked, RequestError
from bertkit.workflows.serve.entities import Word, entities_of, words_of
from bertkit.workflows.serve.forms import SHOWN_CHARS, Form, form_of, read_example


class HeadModel:
    """Answers with a model of `open_finetuned`."""

    def __init__(self, model: Finetuned) -> None:
        self._model = model
        self._problem = model.spec.problem
        self._fields = Fields.of(
            self._problem, model.labels, (), flat=False, with_probabilities=self._problem != "regression"
        )

    def describe(self) -> dict[str, Any]:
        """Task, kind of problem, labels, fields of an input, and the lengths the model was trained with."""
        options = self._model.predictor.options
        said = {
            "task": self._model.spec.name,
            "problem": self._problem,
            "fields": list(self._form.fields),
            "max_seq_length": options.max_seq_length,
        }
        if self._problem not in ("span_qa", "multiple_choice", "regression"):
            said["labels"] = list(self._model.labels)
        if self._problem == "tagging":
            said["has_entities"] = self._has_entities
        if self._problem == "span_qa":
            said["null_threshold"] = options.null_threshold
        if self._problem == "multi_label":
            said["thresholds"] = options.thresholds or [0.5] * len(self._model.labels)
        return said

    def read(self, value: Any, where: str, parameters: Mapping[str, Any]) -> Asked:
        """One input of a request."""
        if parameters:
            name = next(iter(parameters))[:SHOWN_CHARS]
            raise RequestError(f"parameters has an unknown field '{name}': this model takes none")
        example = read_example(self._problem, self._form, value, where)
        num_choices = len(example.texts) - 1 if self._problem == "multiple_choice" else 1
        return Asked(example, {"value": value}, num_choices)

    def answer(self, asked: Sequence[Asked]) -> list[Answer | Exception]:
        """What the model says of every input, in one pass."""
        examples = [each.example for each in asked]
        predictor = self._model.predictor
        features = predictor.featurize(examples)
        predictions = predictor.predict_chunk(examples, features)
        cut = [self._is_cut(example) for example in examples] if features.num_cut else [False] * len(examples)
        return [
            self._answer(each, prediction) | ({"is_cut": True} if was_cut else {})
            for each, prediction, was_cut in zip(asked, predictions, cut, strict=True)
        ]

    @cached_property
    def _form(self) -> Form:
        return form_of(self._problem, self._model.spec.texts)

    @cached_property
    def _has_entities(self) -> bool:
        return has_chunk_tags([self._model.labels])

    def _is_cut(self, example: Example) -> bool:
        return self._model.predictor.featurize([example]).num_cut > 0

    def _answer(self, asked: Asked, prediction: Prediction) -> Answer:
        answer = self._fields.of_row(AnsweredRow(asked.example, prediction))
        return answer | self._tagged(asked, prediction) if self._problem == "tagging" else answer

    def _tagged(self, asked: Asked, prediction: Prediction) -> Answer:
        """The words, and the entities at characters of the text; of tokens, of the tokens with blanks between them."""
        tokens = asked.example.texts
        text = _text_of(asked.parameters["value"]) or " ".join(tokens)
        words = words_of(text) if text != " ".join(tokens) else _places(tokens)
        said: Answer = {"tokens": list(tokens)}
        if self._has_entities:
            said["entities"] = entities_of(text, words, prediction.value, prediction.details["probabilities"])
        return said


def _text_of(value: Any) -> str | None:
    """The text of an input of tagging as it was sent, None where its words were."""
    return value if isinstance(value, str) else value.get("text")


def _places(tokens: Sequence[str]) -> list[Word]:
    """Where tokens stand with one blank between them."""
    words, start = [], 0
    for token in tokens:
        words.append(Word(token, start, start + len(token)))
        start += len(token) + 1
    return words
