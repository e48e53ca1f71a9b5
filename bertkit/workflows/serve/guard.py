"""Who may ask: a page of another site may not, by whatever name it found this server."""

import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertkit.workflows.serve.addresses import is_address, is_loopback


class Guard:
    """Refuses requests to a name that is not this machine's, and those of other sites; sets the headers of safety.

    A name that anybody may point at 127.0.0.1 makes a browser take a stranger's page for one of this server's (DNS
    rebinding). An address is nobody's to point anywhere, so addresses are always good.
    """

    def __init__(self, app: ASGIApp, *, host: str, policy: str) -> None:
        self._app = app
        self._names = _own_names(host)
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
        app = self._app if sentence is None else JSONResponse({"error": sentence}, status_code=403)
        await app(scope, receive, send_safely)

    def _refusal(self, headers: Mapping[str, str]) -> str | None:
        host = headers.get("host", "")
        if not self._is_own(host):
            named = host[:100] or "a host without a name"
            return f"this server is not {named}: open it at the address that bertkit serve printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "pages of other sites may not ask this server"
        return None

    def _is_own(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
        except ValueError:
            return False
        return name in self._names or is_address(name)


def _own_names(host: str) -> frozenset[str]:
    """What the server may be called: on a network, this machine's names too."""
    names = {"localhost", host.lower()}
    return frozenset(names if is_loopback(host) else names | {socket.gethostname().lower(), socket.getfqdn().lower()})
