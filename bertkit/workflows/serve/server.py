"""From the name of a model to a server that answers until it is told to stop."""

import asyncio
import errno
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bertkit.errors import ConfigError, redacted
from bertkit.installed import is_installed
from bertkit.train.signals import StopSignals
from bertkit.workflows.finetuned import open_finetuned
from bertkit.workflows.predict import prediction_precision
from bertkit.workflows.runs import RunFolder, newest_run
from bertkit.workflows.serve.addresses import is_loopback, url_of
from bertkit.workflows.serve.asked import Counts, Limits, Served
from bertkit.workflows.serve.heads import HeadModel
from bertkit.workflows.serve.masks import MaskModel
from bertkit.workflows.source import direction_of, open_bert_config

if TYPE_CHECKING:
    import uvicorn

logger = logging.getLogger(__name__)

PACKAGES: Final = ("starlette", "uvicorn")
_MASK_HEADS: Final = ("ForPreTraining", "ForMaskedLM")
# What predicts words without any mask.
_WORD_HEADS: Final = (*_MASK_HEADS, "LMHeadModel", "ForCausalLM")
# As many as may wait to be accepted while the model opens.
_BACKLOG: Final = 2048
# Longer than clients and proxies keep a connection for another request: whoever closes first should be the client, or a
# request may be on its way to a connection that is gone.
_IDLE_S: Final = 75
# For answers that are under way when the server stops, beyond their own limit.
_GRACE_S: Final = 5
_TICK_S: Final = 0.1
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")
_SHOWN_CHARS: Final = 60


@dataclass(frozen=True)
class ServeSummary:
    """What was served, and the signal that ended it."""

    source: str
    counts: Counts
    stopped_by: str


def serve(
    source: str | Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    allow_hosts: Sequence[str] = (),
    on_ready: Callable[[str, str], None] = lambda source, address: None,
) -> ServeSummary:
    """Serves a run, a BERT folder or a Hub id, the newest run if none is named, until a signal stops it.

    port: 0 for any free one. allow_hosts: names that a proxy before it is asked for by. on_ready: is told the model and
    the address once requests are answered. A signal lets the requests under way finish; a second Ctrl-C does not.

    Raises:
        ConfigError: a package is missing, the port is taken, or there is no such model; says what to do.
    """
    _require_packages()
    from bertkit.workflows.serve.app import build_app
    from bertkit.workflows.serve.guard import own_names

    names = own_names(host, list(map(_require_name, allow_hosts)))

    # Before the model is opened: a port that is taken is told at once.
    with closing(_listen(host, port)) as listener:
        name = str(source or newest_run().path)
        logger.info("opening %s", redacted(name))
        counts, limits = Counts(), limits or Limits()
        app = build_app(open_served(name), source=_shown(name, host), limits=limits, names=names, counts=counts)
        address = url_of(host, listener.getsockname()[1])
        with StopSignals(interrupts=False) as signals:
            server = _build_server(app, limits, signals, on_ready=lambda: on_ready(name, address))
            server.run(sockets=[listener])
    return ServeSummary(name, counts, signals.received.name if signals.received else "SIGTERM")


def open_served(source: str) -> Served:
    """The model of a run, a folder or a Hub id by what its head can do.

    Raises:
        ConfigError: there is no such model, or it has no head.
        CheckpointError: the run is not finished.
    """
    if not RunFolder(Path(source)).is_finetuning() and _fills_masks(source):
        return MaskModel.open(source)
    return HeadModel(open_finetuned(source, precision=prediction_precision()))


def _fills_masks(source: str) -> bool:
    try:
        config = open_bert_config(source)
    except ConfigError as error:
        # Here the model is an argument.
        raise ConfigError(str(error)) from error
    architecture, direction = str(next(iter(config.architectures or []), "")), direction_of(config)
    if architecture.endswith(_WORD_HEADS) and direction != "bidirectional":
        raise ConfigError(
            f"{source} is a {direction} model, which fills no masks: serve a run that was fine-tuned from it"
        )
    return architecture.endswith(_MASK_HEADS)


def _shown(name: str, host: str) -> str:
    """The model's name for its clients; those on a network need not know the folders of this machine."""
    is_folder = Path(name).exists() and not is_loopback(host)
    return Path(name).resolve().name if is_folder else redacted(name)


def _require_packages() -> None:
    if missing := [name for name in PACKAGES if not is_installed(name)]:
        raise ConfigError(
            f"bertkit serve needs {' and '.join(missing)}, which is not installed: pip install {' '.join(missing)}"
        )


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens; those who come before the model is open wait a moment.

    Raises:
        ConfigError: it cannot be had; names the option to change.
    """
    if not host.strip():
        raise ConfigError("--host is empty: give 127.0.0.1, or leave it out")
    if "://" in host or (host.count(":") == 1):
        raise ConfigError(f"--host {host} is more than a host: give 127.0.0.1 or a name, and the port with --port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # What it says of a name is more than what it says while it binds.
        socket.getaddrinfo(host, port, family)
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, ValueError) as error:
        raise ConfigError(_why_not(host, port, error)) from error


def _require_name(name: str) -> str:
    if not _HOST_NAME.fullmatch(name):
        raise ConfigError(
            f"--allow-host {name} is no name of a host: give one such as bert.example.org, without a port"
        )
    return name.removesuffix(".")


def _why_not(host: str, port: int, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        # What the encoding of international names cannot take.
        return f"--host {host[:_SHOWN_CHARS]} is no name of a host: give 127.0.0.1, or leave it out"
    if error.errno in (errno.EADDRINUSE, errno.EACCES) and not isinstance(error, socket.gaierror):
        why = "is in use" if error.errno == errno.EADDRINUSE else "is the system's own"
        return f"port {port} {why}: give another with --port, or --port 0 for any free one"
    reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
    return f"--host {host} is no address of this machine ({reason}): give 127.0.0.1, or leave it out"


def _build_server(app: Any, limits: Limits, signals: StopSignals, *, on_ready: Callable[[], None]) -> "uvicorn.Server":
    import uvicorn

    class Server(uvicorn.Server):
        """uvicorn's server, stopped by our signals: they are noticed at its next tick, ten times a second.

        A second Ctrl-C hangs up on everybody: their requests end as if they had gone, and so does the server.
        """

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready()

        async def on_tick(self, counter: int) -> bool:
            return signals.received is not None or await super().on_tick(counter)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            if tasks := len(self.server_state.tasks):
                logger.info("answering what has come (requests: %d); Ctrl-C again stops at once", tasks)
            impatience = asyncio.create_task(self._hang_up_when_urgent())
            await super().shutdown(sockets)
            impatience.cancel()

        async def _hang_up_when_urgent(self) -> None:
            while not signals.is_urgent:
                await asyncio.sleep(_TICK_S)
            for connection in list(self.server_state.connections):
                if connection.transport is not None:
                    connection.transport.abort()

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        ws="none",
        server_header=False,
        backlog=_BACKLOG,
        limit_concurrency=limits.connections,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=int(limits.seconds) + _GRACE_S,
    )
    return Server(config)
