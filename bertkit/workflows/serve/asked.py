"""What a request asks, what it may ask at the most, and how it is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bertkit.tasks.spec import Example

Answer = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What one request may hold, how many inputs may wait, and for how long.

    body_bytes: of a request. inputs: of a request. chars: of one input, all its texts together. waiting: inputs of all
    requests that have no answer yet. seconds: for a request to arrive, and again for its answer.
    """

    body_bytes: int = 2_000_000
    inputs: int = 256
    chars: int = 50_000
    waiting: int = 4096
    seconds: float = 30.0


@dataclass(frozen=True)
class Asked:
    """One input that was read: what a model with a head takes, and the parameters of its request."""

    example: Example
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def chars(self) -> int:
        """Characters of all its texts."""
        return sum(map(len, self.example.texts))


class RequestError(Exception):
    """A request that cannot be answered: a sentence for whoever sent it, and the status of HTTP."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


class Served(Protocol):
    """A model that answers requests.

    describe(): what `/api/info` says of it. read(value, where, parameters): one input of a request, or RequestError.
    answer(asked): in the one thread that predicts; an input that cannot be answered has its error in its place.
    """

    def describe(self) -> dict[str, Any]: ...

    def read(self, value: Any, where: str, parameters: Mapping[str, Any]) -> Asked: ...

    def answer(self, asked: Sequence[Asked]) -> list[Answer | Exception]: ...
