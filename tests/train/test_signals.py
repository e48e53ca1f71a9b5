import os
import signal
import sys
import threading
import time

import pytest

from bertkit.train import signals as module
from bertkit.train.signals import STOPPING, StoppedError, StopSignals, exit_code, stopped_at_once


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.mark.parametrize("number", STOPPING)
def test_the_first_signal_is_remembered_and_interrupts_nothing(number):
    with StopSignals() as signals:
        os.kill(os.getpid(), number)
        assert signals.received == number


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGUSR1")
def test_slurms_early_warning_and_a_lost_terminal_are_requests_to_stop():
    assert set(STOPPING) == {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP}


@pytest.mark.parametrize("first", STOPPING)
def test_ctrl_c_after_another_signal_interrupts_at_once(first):
    with StopSignals():
        os.kill(os.getpid(), first)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_sigterm_however_often_waits_for_the_end_of_the_step():
    with StopSignals() as signals:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert signals.received == signal.SIGTERM


def test_ctrl_c_that_a_launcher_passes_on_is_not_a_second_one(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        now_s = time.monotonic()
        monkeypatch.setattr(module.time, "monotonic", lambda: now_s + 3)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [number for number in STOPPING if number != signal.SIGINT])
def test_elsewhere_than_in_training_a_signal_stops_at_once(number):
    with stopped_at_once(), pytest.raises(StoppedError, match=signal.Signals(number).name) as stopped:
        os.kill(os.getpid(), number)
    assert stopped.value.exit_code == 128 + number


@pytest.mark.parametrize("entered", [StopSignals, stopped_at_once])
def test_handlers_are_put_back(entered):
    before = [signal.getsignal(number) for number in STOPPING]
    with entered():
        assert [signal.getsignal(number) for number in STOPPING] != before
    assert [signal.getsignal(number) for number in STOPPING] == before


@pytest.mark.parametrize("entered", [StopSignals, stopped_at_once])
def test_in_another_thread_nothing_is_caught(entered):
    seen = []

    def enter():
        with entered():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


def test_exit_codes_are_those_of_a_shell():
    assert [exit_code(name) for name in ("SIGINT", "SIGTERM")] == [130, 143]
    if sys.platform == "linux":
        assert exit_code("SIGUSR1") == 138


def test_what_is_ignored_as_under_nohup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.received is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
