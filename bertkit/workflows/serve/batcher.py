"""Inputs of many requests as few batches: whatever waits together is predicted together, in one thread."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from bertkit.workflows.serve.asked import Answer, Asked, RequestError

# Memory follows the predictor's own batches; these keep a long queue from making the first of it wait for all, and what
# nobody waits for any more from being predicted.
INPUTS_A_BATCH: Final = 64
CHARS_A_BATCH: Final = 6_000
# For others to come when one comes alone: unnoticed by a person, and several requests of a busy machine.
WAIT_S: Final = 0.003

AnswerFn = Callable[[Sequence[Asked]], list[Answer | Exception]]


@dataclass(frozen=True)
class _Waiting:
    asked: Asked
    answered: "asyncio.Future[Answer]"


class Batcher:
    """Answers inputs with `answer_fn` in a thread of its own; enter it before asking.

    Requests give one input each in turn: a small one does not wait until a large one is done.
    """

    def __init__(self, answer_fn: AnswerFn, *, most_waiting: int) -> None:
        self._answer_fn = answer_fn
        self._most_waiting = most_waiting
        self._requests: deque[deque[_Waiting]] = deque()
        self._arrived = asyncio.Event()
        self.batches = 0

    async def __aenter__(self) -> Self:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="predict")
        self._work = asyncio.create_task(self._answer_for_ever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._work.cancel()
        with suppress(asyncio.CancelledError):
            await self._work
        self._thread.shutdown()

    @property
    def waiting(self) -> int:
        """Inputs that no batch has taken yet."""
        return sum(map(len, self._requests))

    async def ask(self, inputs: Sequence[Asked]) -> list[Answer]:
        """The answers, in order; whoever stops waiting for them takes the inputs back out of the queue.

        Raises:
            RequestError: too many wait already, or an input cannot be answered.
        """
        if (waiting := self.waiting) and waiting + len(inputs) > self._most_waiting:
            raise RequestError("too many inputs are waiting: try again in a moment", 503)
        loop = asyncio.get_running_loop()
        mine = [_Waiting(each, loop.create_future()) for each in inputs]
        request = deque(mine)
        self._requests.append(request)
        self._arrived.set()
        try:
            return list(await asyncio.gather(*(each.answered for each in mine)))
        finally:
            request.clear()
            for each in mine:
                each.answered.cancel()

    async def _answer_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            if self.waiting < INPUTS_A_BATCH:
                await asyncio.sleep(WAIT_S)
            batch = self._take()
            if not self._requests:
                self._arrived.clear()
            if not batch:
                continue
            self.batches += 1
            answers = await loop.run_in_executor(self._thread, self._answer, [each.asked for each in batch])
            for each, answer in zip(batch, answers, strict=True):
                _settle(each.answered, answer)

    def _take(self) -> list[_Waiting]:
        """The next of those that wait: one if there is any, and no more than a batch should hold."""
        batch: list[_Waiting] = []
        chars = 0
        while self._requests and len(batch) < INPUTS_A_BATCH:
            request = self._requests.popleft()
            if not request:
                continue
            chars += request[0].asked.chars
            if batch and chars > CHARS_A_BATCH:
                self._requests.appendleft(request)
                break
            batch.append(request.popleft())
            self._requests.append(request)
        return batch

    def _answer(self, asked: Sequence[Asked]) -> list[Answer | Exception]:
        """The answers of a batch; where it fails as a whole, of each alone, so that one does not spoil the others."""
        try:
            return self._answer_fn(asked)
        except Exception as error:
            if len(asked) > 1:
                return [self._answer([each])[0] for each in asked]
            return [error]


def _settle(answered: "asyncio.Future[Answer]", answer: Answer | Exception) -> None:
    if answered.done():
        return
    if isinstance(answer, Exception):
        answered.set_exception(answer)
    else:
        answered.set_result(answer)
