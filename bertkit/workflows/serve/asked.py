"""What a request asks, what it may ask at the most, and how it is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bertkit.tasks.spec import Example

Answer = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """What one request may hold, how many may come, and how long they may take.

    inputs: of a request. chars: of a request, as the model reads them. waiting: inputs of all requests that have no
    answer yet. connections: at a time. seconds: for a request to arrive, and again for its answer.
    """

    inputs: int = 256
    # About what BERT base reads in `seconds` on two cores of a CPU.
    chars: int = 30_000
    waiting: int = 4096
    connections: int = 1024
    seconds: float = 30.0

    @property
    def body_bytes(self) -> int:
        """Of a request: each character may be written as two escapes, and each input has something around it."""
        return 12 * self.chars + 1000 * self.inputs


@dataclass(frozen=True)
class Asked:
    """One input that was read: what a model with a head takes, and the parameters of its request.

    num_choices: before each of them the model reads the first text once more.
    """

    example: Example
    parameters: Mapping[str, Any] = field(default_factory=dict)
    num_choices: int = 1

    @property
    def chars(self) -> int:
        """Characters that the model reads."""
        return sum(map(len, self.example.texts)) + (self.num_choices - 1) * len(self.example.texts[0])


@dataclass
class Counts:
    """What was served so far: requests that were answered, refused, failed by a bug, or whose clients went away."""

    requests: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    gone: int = 0
    inputs: int = 0


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
