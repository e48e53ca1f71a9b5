"""The web application: a page, what the model is, and its answers; every error is JSON with one sentence."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Collection, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

import bertkit
from bertkit.errors import BertkitError, nearest, printable
from bertkit.workflows.serve.asked import Asked, Counts, Limits, RequestError, Served
from bertkit.workflows.serve.batcher import Batcher
from bertkit.workflows.serve.forms import SHOWN_CHARS
from bertkit.workflows.serve.guard import LOOPBACK_NAMES, Guard
from bertkit.workflows.serve.page import read_page

logger = logging.getLogger(__name__)

# A client that is cut off while it sends never reads why: so much more than the limit is read and thrown away.
THROWN_AWAY: Final = 32
RETRY_AFTER_S: Final = "1"
_FIELDS: Final = ("inputs", "parameters")


def build_app(
    served: Served,
    *,
    source: str,
    limits: Limits | None = None,
    names: Collection[str] | None = LOOPBACK_NAMES,
    counts: Counts | None = None,
) -> Guard:
    """The application for a model; `names` are those it may be asked for by, beside addresses, None for any."""
    page, policy = read_page()
    state = _State(served, source, page, limits or Limits(), counts or Counts())

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with Batcher(served.answer, most_waiting=state.limits.waiting) as state.batcher:
            yield

    app = Starlette(
        routes=[
            Route("/", state.page),
            Route("/api/info", state.info),
            Route("/api/predict", state.predict, methods=["POST"]),
            Route("/healthz", state.health),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _bug},
        lifespan=lifespan,
    )
    # Outside of everything, the answer to a bug included.
    return Guard(app, names=names, policy=policy, counts=state.counts)


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
        limits = asdict(self.limits) | {"body_bytes": self.limits.body_bytes}
        return JSONResponse(about | described | {"limits": limits, "served": counts})

    async def predict(self, request: Request) -> Response:
        """The answers to one request, or why there are none."""
        self.counts.requests += 1
        try:
            asked, is_list = self._read(await _body(request, self.limits))
            outputs = await _unless_gone(request, self._answers(asked))
        except ClientDisconnect:
            self.counts.gone += 1
            return _error("the client went away", 499)
        except asyncio.CancelledError:
            return _error("the server stopped before it could answer", 503)
        except RequestError as error:
            self.counts.refused += 1
            headers = {"Retry-After": RETRY_AFTER_S} if error.status == 503 else None
            return _error(str(error), error.status, headers)
        except BertkitError as error:
            self.counts.refused += 1
            return _error(str(error), 400)
        except Exception as error:
            # Answered here: above, it would cost the client its connection.
            self.counts.failed += 1
            logger.exception("a request could not be answered")
            return _bug(request, error)
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
        asked = [self.served.read(v, place, parameters) for v, place in zip(values, places, strict=True)]
        if (chars := sum(each.chars for each in asked)) > self.limits.chars:
            most = f"{self.limits.chars:,} are the most a request"
            raise RequestError(f"inputs has {chars:,} characters for the model to read: {most}", 413)
        return asked, is_list

    async def _answers(self, asked: list[Asked]) -> list[dict[str, Any]]:
        if self.batcher is None:
            raise RequestError("the server is starting: try again in a moment", 503)
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await self.batcher.ask(asked)
        except TimeoutError:
            late = f"there was no answer within {self.limits.seconds:g} s: send less at a time"
            raise RequestError(late, 504) from None


async def _unless_gone(request: Request, answers: Coroutine[Any, Any, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The answers, for as long as somebody waits for them.

    Raises:
        ClientDisconnect: nobody does.
    """
    # The body was read: what comes next is that the client went away.
    asking, leaving = asyncio.ensure_future(answers), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((asking, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise ClientDisconnect
        return asking.result()
    finally:
        asking.cancel()
        leaving.cancel()
        await asyncio.gather(asking, leaving, return_exceptions=True)


async def _body(request: Request, limits: Limits) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        RequestError: it is too large, too slow, or not what it must be.
        ClientDisconnect: it broke off.
    """
    # A form of another site can send text, but JSON only after asking, and it is never allowed to.
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise RequestError("send JSON, with the header Content-Type: application/json", 415)
    try:
        async with asyncio.timeout(limits.seconds):
            content = await _content(request, limits.body_bytes)
    except TimeoutError:
        raise RequestError(f"the request did not arrive within {limits.seconds:g} s", 408) from None
    try:
        body = json.loads(content)
    except UnicodeDecodeError as error:
        where = f"byte {error.start:,} is 0x{content[error.start]:02x}"
        raise RequestError(f"the request is not UTF-8 ({where}): encode the JSON as UTF-8") from None
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
    # What a client sent and the sentence repeats may be halves of characters, which cannot be encoded.
    return JSONResponse({"error": printable(sentence)}, status_code=status, headers=headers)
