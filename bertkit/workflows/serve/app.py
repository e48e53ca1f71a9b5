"""The web application: a page, what the model is, and its answers; every error is JSON with one sentence."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

import bertkit
from bertkit.errors import BertkitError, nearest
from bertkit.workflows.serve.asked import Asked, Limits, RequestError, Served
from bertkit.workflows.serve.batcher import Batcher
from bertkit.workflows.serve.forms import SHOWN_CHARS
from bertkit.workflows.serve.guard import Guard
from bertkit.workflows.serve.page import read_page

# A client that is cut off while it sends never reads why: so much more than the limit is read and thrown away.
THROWN_AWAY: Final = 32
RETRY_AFTER_S: Final = "1"
_FIELDS: Final = ("inputs", "parameters")


@dataclass
class Counts:
    """What was served so far."""

    requests: int = 0
    answered: int = 0
    refused: int = 0
    inputs: int = 0


def build_app(
    served: Served, *, source: str, limits: Limits | None = None, host: str = "127.0.0.1", counts: Counts | None = None
) -> Starlette:
    """The application for a model; `host` is the address it will be reached at, beside this machine's own names."""
    page, policy = read_page()
    state = _State(served, source, page, limits or Limits(), counts or Counts())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with Batcher(served.answer, most_waiting=state.limits.waiting) as state.batcher:
            yield

    return Starlette(
        routes=[
            Route("/", state.page),
            Route("/api/info", state.info),
            Route("/api/predict", state.predict, methods=["POST"]),
            Route("/healthz", state.health),
        ],
        middleware=[Middleware(Guard, host=host, policy=policy)],
        exception_handlers={HTTPException: _http_error, Exception: _bug},
        lifespan=lifespan,
    )


@dataclass
class _State:
    """What the routes share."""

    served: Served
    source: str
    html: str
    limits: Limits
    counts: Counts
    batcher: Batcher | None = None

    async def page(self, request: Request) -> Response:
        """The page for people."""
        return HTMLResponse(self.html)

    async def health(self, request: Request) -> Response:
        """That requests are answered."""
        return JSONResponse({"status": "ok"})

    async def info(self, request: Request) -> Response:
        """What the model is, what it takes, what was served so far."""
        described = self.served.describe()
        counts = asdict(self.counts) | {
            "batches": self.batcher.batches if self.batcher else 0,
            "waiting": self.batcher.waiting if self.batcher else 0,
        }
        about = {"model": self.source, "bertkit": bertkit.__version__}
        return JSONResponse(about | described | {"limits": asdict(self.limits), "served": counts})

    async def predict(self, request: Request) -> Response:
        """The answers to one request, or why there are none."""
        self.counts.requests += 1
        try:
            asked, is_list = self._read(await _body(request, self.limits))
            outputs = await self._answers(asked)
        except RequestError as error:
            self.counts.refused += 1
            headers = {"Retry-After": RETRY_AFTER_S} if error.status == 503 else None
            return _error(str(error), error.status, headers)
        except BertkitError as error:
            self.counts.refused += 1
            return _error(str(error), 400)
        self.counts.answered += 1
        self.counts.inputs += len(outputs)
        return JSONResponse({"outputs": outputs if is_list else outputs[0]})

    def _read(self, body: dict[str, Any]) -> tuple[list[Asked], bool]:
        inputs, parameters = body["inputs"], body.get("parameters", {})
        if not isinstance(parameters, dict):
            raise RequestError("parameters must be an object")
        is_list = isinstance(inputs, list)
        values = inputs if is_list else [inputs]
        if not values:
            raise RequestError("inputs is empty: give one or more")
        if len(values) > self.limits.inputs:
            raise RequestError(f"inputs has {len(values):,}: {self.limits.inputs:,} are the most a request", 413)
        places = [f"inputs[{number}]" for number in range(len(values))] if is_list else ["inputs"]
        return [self._read_one(v, place, parameters) for v, place in zip(values, places, strict=True)], is_list

    def _read_one(self, value: Any, where: str, parameters: dict[str, Any]) -> Asked:
        asked = self.served.read(value, where, parameters)
        if asked.chars > self.limits.chars:
            raise RequestError(f"{where} has {asked.chars:,} characters: {self.limits.chars:,} are the most", 413)
        return asked

    async def _answers(self, asked: list[Asked]) -> list[dict[str, Any]]:
        if self.batcher is None:
            raise RequestError("the server is starting: try again in a moment", 503)
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await self.batcher.ask(asked)
        except TimeoutError:
            late = f"there was no answer within {self.limits.seconds:g} s: send less at a time"
            raise RequestError(late, 504) from None


async def _body(request: Request, limits: Limits) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        RequestError: it is too large, too slow, or not what it must be.
    """
    # A form of another site can send text, but JSON only after asking, and it is never allowed to.
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise RequestError("send JSON, with the header Content-Type: application/json", 415)
    try:
        async with asyncio.timeout(limits.seconds):
            content = await _content(request, limits.body_bytes)
    except TimeoutError:
        raise RequestError(f"the request did not arrive within {limits.seconds:g} s", 408) from None
    except ClientDisconnect:
        raise RequestError("the request broke off") from None
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        reason = f": {error}" if isinstance(error, json.JSONDecodeError) else ""
        raise RequestError(f"the request is not valid JSON{reason}") from None
    if not isinstance(body, dict) or "inputs" not in body:
        raise RequestError('the request must be an object with "inputs"')
    for name in body:
        if name not in _FIELDS:
            hint = nearest(name, _FIELDS) or ": it takes inputs and parameters"
            raise RequestError(f"the request has an unknown field '{name[:SHOWN_CHARS]}'{hint}")
    return body


async def _content(request: Request, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > THROWN_AWAY * most:
            break
        if size <= most:
            parts.append(part)
    if size > most:
        raise RequestError(f"the request is larger than {most:,} bytes: send less at a time", 413)
    return b"".join(parts)


def _http_error(request: Request, error: Exception) -> Response:
    """What no route answers, 404 and 405."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if status == 404:
        return _error(f"there is no {request.url.path}: see /, /api/info, /api/predict and /healthz", 404)
    return _error(f"{request.method} is not for {request.url.path}: use {headers.get('Allow', 'GET')}", status, headers)


def _bug(request: Request, error: Exception) -> Response:
    return _error(f"the model failed on this request ({type(error).__name__}): the server's log says more", 500)


def _error(sentence: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence}, status_code=status, headers=headers)
