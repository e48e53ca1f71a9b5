"""`bertkit serve` as a process: 200 clients at once, signals, a port in use."""

import asyncio
import inspect
import io
import json
import signal
import socket
import ssl
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest
from toy_heads import write_head
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.cli.serve import serve
from bertkit.train.signals import StoppedError
from bertkit.workflows.predict import predict

PATIENCE_S = 60
CLIENTS = 200


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    return write_head(tmp_path_factory.mktemp("heads") / "classes")


@contextmanager
def started(folder):
    """The process, and the address it says it answers at."""
    command = [sys.executable, "-m", "bertkit", "serve", str(folder), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = []
            while not lines or lines[-1].rstrip() != "}":
                lines.append(process.stdout.readline())
                assert lines[-1], process.stderr.read()
            yield process, json.loads("".join(lines))["url"]
        finally:
            process.kill()


async def ask_all(url, texts):
    """An answer for each text, every one of them a client with a connection of its own."""
    # The slowest part of a client, and not needed here.
    context = ssl.create_default_context()

    async def one(text):
        async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False, verify=context) as client:
            first = await client.post(f"{url}api/predict", json={"inputs": text})
            second = await client.post(f"{url}api/predict", json={"inputs": [text, text[::-1]]})
        return first.json()["outputs"], second.json()["outputs"][0]

    return await asyncio.gather(*map(one, texts))


def test_no_line_of_its_help_is_folded_twice():
    # typer keeps a new line within any paragraph after the first, wherever the terminal folds it.
    _, *others = inspect.cleandoc(serve.__doc__).split("\n\n")
    assert others
    assert not any("\n" in paragraph for paragraph in others)


def test_200_clients_at_once_each_get_their_own_right_answer(head):
    texts = [" ".join(["the", "cat", "sat", "on", str(place)] * (1 + place % 5)) for place in range(CLIENTS)]
    out = io.StringIO()
    predict(head, output=out, sentences=texts)
    expected = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len({row["probability"] for row in expected}) > CLIENTS / 2
    with started(head) as (_, url):
        answers = asyncio.run(ask_all(url, texts))
        served = httpx.get(f"{url}api/info", timeout=PATIENCE_S, trust_env=False).json()["served"]
    for row, both in zip(expected, answers, strict=True):
        for answer in both:
            assert answer["prediction"] == row["prediction"]
            assert answer["probability"] == pytest.approx(row["probability"], abs=2e-6)
    assert (served["answered"], served["refused"], served["inputs"]) == (2 * CLIENTS, 0, 3 * CLIENTS)
    # Many were answered together.
    assert served["batches"] < served["inputs"] / 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a signal to another process")
def test_a_signal_stops_it_with_the_code_of_a_shell(head):
    with started(head) as (process, url):
        assert httpx.get(f"{url}healthz", timeout=PATIENCE_S, trust_env=False).status_code == 200
        httpx.post(f"{url}api/predict", json={"inputs": "a"}, timeout=PATIENCE_S, trust_env=False)
        httpx.post(f"{url}api/predict", json={"inputs": 1}, timeout=PATIENCE_S, trust_env=False)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143
    assert said.strip().endswith("stopped by SIGTERM: 1 requests answered, 1 refused")
    assert "Traceback" not in said


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot send a signal to another process")
def test_a_second_interrupt_hangs_up_on_everybody_and_ends_without_a_traceback(head):
    begun = (
        b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"
    )
    with started(head) as (process, url), socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as client:
        client.settimeout(PATIENCE_S)
        client.sendall(begun + b'{"inputs"')
        while not httpx.get(f"{url}api/info", timeout=PATIENCE_S, trust_env=False).json()["served"]["requests"]:
            pass
        process.send_signal(signal.SIGINT)
        while "Ctrl-C again stops at once" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert said == "stopped by SIGINT: 0 requests answered, 1 left without an answer\n"


def test_a_signal_while_the_model_opens_promises_nothing(monkeypatch):
    def stopped(*args, **others):
        raise StoppedError(signal.SIGTERM)

    monkeypatch.setattr("bertkit.workflows.serve.server.serve", stopped)
    result = CliRunner().invoke(app, ["serve"])
    assert (result.exit_code, result.stderr) == (143, "error: stopped by SIGTERM; nothing was served yet\n")


def test_a_port_in_use_is_one_line_that_names_the_option(head):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["serve", str(head), "--port", str(port)])
    assert result.exit_code == 2
    assert result.stderr == f"error: port {port} is in use: give another with --port, or --port 0 for any free one\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere/at-all"], "there is no folder nowhere/at-all, and HF_HUB_OFFLINE is set"),
        (["--host", ""], "--host is empty"),
        (["--host", "203.0.113.9"], "--host 203.0.113.9 is no address of this machine"),
        (["--host", "no such host"], "--host no such host is no address of this machine"),
        (["--host", "localhost:8000"], "the port with --port"),
        (["--host", "http://localhost"], "the port with --port"),
        (["--host", "é" * 64 + ".example"], "is no name of a host"),
        (["--allow-host", "https://bert.example.org"], "--allow-host https://bert.example.org is no name of a host"),
        (["--allow-host", ""], "is no name of a host"),
        ([], "there is no run under runs/"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["serve", "--port", "0", *arguments])
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    # Of a server that never began.
    assert "warning" not in result.stderr
    assert "Traceback" not in result.output
