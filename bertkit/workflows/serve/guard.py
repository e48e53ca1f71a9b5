"""Who may ask: a page of another site may not, by whatever name it found this server."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertkit.errors import printable
from bertkit.workflows.serve.addresses import is_address, is_loopback
from bertkit.workflows.serve.asked import Counts

LOOPBACK_NAMES: Final = frozenset({"localhost"})


def own_names(host: str, allowed: Sequence[str] = ()) -> frozenset[str] | None:
    """The names that a server at `host` may be asked for by, None for any.

    Only at a loopback address is the name what keeps strangers out: there their pages run in a browser of this machine.
    On a network whoever reaches the port may ask, by names of proxies and containers that nobody knows here.
    """
    if not is_loopback(host):
        return None
    return LOOPBACK_NAMES | {name.lower() for name in (host, *allowed)}


class Guard:
    """Refuses requests to a name that is not the server's, and those of other sites; sets the headers of safety.

    A name that anybody may point at 127.0.0.1 makes a browser take a stranger's page for one of this server's (DNS
    rebinding). An address is nobody's to point anywhere, so addresses are always good.
    """

    def __init__(self, app: ASGIApp, *, names: Collection[str] | None, policy: str, counts: Counts) -> None:
        self._app = app
        self._names = names
        self._counts = counts
        self._headers = {
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        sentence = self._refusal(Headers(scope=scope))
        if sentence is None:
            await self._app(scope, receive, send_safely)
            return
        self._counts.requests += 1
        self._counts.refused += 1
        await JSONResponse({"error": printable(sentence)}, status_code=403)(scope, receive, send_safely)

    def _refusal(self, headers: Mapping[str, str]) -> str | None:
        host = headers.get("host", "")
        if not self._is_own(host):
            named = host[:100] or "a host without a name"
            return (
                f"this server is not {named}: open it at the address that bertkit serve printed, or start it with "
                "--allow-host"
            )
        origin = headers.get("origin")
        if origin is not None and not _is_of(origin, host):
            return "pages of other sites may not ask this server"
        return None

    def _is_own(self, host: str) -> bool:
        if self._names is None:
            return True
        try:
            name = (urlsplit(f"//{host}").hostname or "").removesuffix(".")
        except ValueError:
            return False
        return name in self._names or is_address(name)


def _is_of(origin: str, host: str) -> bool:
    """Whether a page of that origin came from this server; `null`, a page of nowhere, did not."""
    try:
        place = urlsplit(origin).netloc
    except ValueError:
        return False
    return bool(place) and place == host
