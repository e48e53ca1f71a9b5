"""A model behind a real server on loopback, in a thread that ends with the test."""

import threading
import time
from contextlib import contextmanager

import httpx
import uvicorn

from bertkit.workflows.serve.app import build_app
from bertkit.workflows.serve.guard import own_names

PATIENCE_S = 60


@contextmanager
def served(model, *, limits=None, host="127.0.0.1", allowed=()):
    """A client of a server for `model`, whose requests are bounded."""
    app = build_app(model, source="toy", limits=limits, names=own_names(host, allowed))
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, lifespan="on", log_config=None, log_level="critical", ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until_s = time.monotonic() + PATIENCE_S
    while not server.started and time.monotonic() < until_s:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as client:
            client.stop_server = lambda: setattr(server, "should_exit", True)
            yield client
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
    assert not thread.is_alive()


def ask(client, inputs, **others):
    """The response to a request to predict."""
    return client.post("/api/predict", json={"inputs": inputs, **others})
