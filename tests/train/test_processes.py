"""Processes of one launch, played by threads over a store that torch keeps in memory."""

import threading
import time

import pytest
from torch.distributed import HashStore

from bertkit.errors import ConfigError, SaidElsewhereError
from bertkit.train.processes import Heartbeat, Processes, ProcessGoneError, launched_processes

BEAT_S = 0.01
SILENT_BEATS = 30


def launch_of(number):
    store = HashStore()
    return [Processes(rank, number, store) for rank in range(number)]


def started(store, rank, number, told):
    heart = Heartbeat(
        store, rank, number, beat_s=BEAT_S, silent_beats=SILENT_BEATS, on_gone=lambda *gone: told.append((rank, *gone))
    )
    heart.start()
    return heart


def beats(store, rank):
    return store.add(f"watch/0/beat/{rank}", 0)


def wait_until(condition, *, for_s=20):
    end = time.monotonic() + for_s
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.005)


def test_others_wait_for_the_main_process_however_long_it_takes():
    main, other = launch_of(2)
    order = []
    thread = threading.Thread(target=lambda: (other.main_first(lambda: order.append("never")), order.append("other")))
    thread.start()
    main.main_first(lambda: (time.sleep(0.3), order.append("main")))
    thread.join()
    assert order == ["main", "other"]


def test_each_turn_of_waiting_is_one_of_its_own():
    main, other = launch_of(2)
    for _ in range(3):
        main.main_first(lambda: None)
        other.main_first(lambda: pytest.fail("it was done twice"))


def test_what_fails_on_the_main_process_is_raised_there_and_told_to_the_others():
    main, other = launch_of(2)

    def fail():
        raise ConfigError("the corpus is empty")

    with pytest.raises(ConfigError, match="the corpus is empty"):
        main.main_first(fail)
    with pytest.raises(SaidElsewhereError, match="the corpus is empty"):
        other.main_first(lambda: None)


def test_a_bug_on_the_main_process_stops_the_others_too():
    main, other = launch_of(2)
    with pytest.raises(ZeroDivisionError):
        main.main_first(lambda: 1 / 0)
    with pytest.raises(SaidElsewhereError, match="division by zero"):
        other.main_first(lambda: None)


def test_a_process_alone_waits_for_nobody(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    launched_processes.cache_clear()
    alone, done = launched_processes(), []
    with alone.watched():
        alone.main_first(lambda: done.append(True))
    assert done == [True]
    assert alone.is_main
    with pytest.raises(ConfigError):
        alone.main_first(lambda: (_ for _ in ()).throw(ConfigError("no")))


def test_while_all_live_nobody_is_told_anything():
    store, told = HashStore(), []
    hearts = [started(store, rank, 3, told) for rank in range(3)]
    wait_until(lambda: beats(store, 0) > 2 * SILENT_BEATS)
    for heart in hearts:
        heart.stop()
    assert told == []


def test_one_that_stops_beating_is_named_to_all_by_the_one_that_watches_it():
    store, told = HashStore(), []
    store.set("name/1", "process 1 of 3 (host gpu-07)")
    hearts = [started(store, rank, 3, told) for rank in range(3)]
    wait_until(lambda: beats(store, 1) > 3)
    hearts[1].stop()
    wait_until(lambda: len(told) == 2)
    assert sorted(told) == [(0, "process 1 of 3 (host gpu-07)", True), (2, "process 1 of 3 (host gpu-07)", False)]


def test_one_whose_work_is_done_is_not_missed():
    store, told = HashStore(), []
    hearts = [started(store, rank, 2, told) for rank in range(2)]
    wait_until(lambda: beats(store, 1) > 3)
    hearts[1].say_done()
    hearts[1].stop()
    seen = beats(store, 0)
    wait_until(lambda: beats(store, 0) > seen + 2 * SILENT_BEATS)
    hearts[0].stop()
    assert told == []


def test_the_main_process_does_not_leave_with_the_store_before_the_others_are_done():
    main, other = launch_of(2)
    order = []

    def work(process, name, seconds):
        with process.watched():
            time.sleep(seconds)
            # Said inside, where main would have gone long ago.
            order.append(name if name == "other" else "main is done")
        order.append(f"{name} left")

    threads = [threading.Thread(target=work, args=each) for each in ((main, "main", 0), (other, "other", 0.5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order.index("main is done") < order.index("other") < order.index("main left")


def test_several_processes_need_a_place_to_meet(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    launched_processes.cache_clear()
    with pytest.raises(ConfigError, match="RANK and MASTER_ADDR and MASTER_PORT is not set"):
        launched_processes()


def test_one_that_is_still_starting_is_not_taken_for_dead():
    store, told = HashStore(), []
    heart = started(store, 0, 2, told)
    wait_until(lambda: beats(store, 0) > 2 * SILENT_BEATS)
    heart.stop()
    assert told == []


def test_a_store_that_is_gone_took_the_main_process_with_it():
    class Gone:
        def add(self, key, number):
            raise RuntimeError("Connection reset by peer")

    told = []
    heart = Heartbeat(HashStore(), 1, 2, on_gone=lambda *gone: told.append(gone))
    heart._store = Gone()
    heart.start()
    wait_until(lambda: told)
    heart.stop()
    assert told[0][0].startswith("process 0 of 2")


def test_a_collective_that_fails_says_whose_end_it_was(monkeypatch):
    monkeypatch.setattr("bertkit.train.processes.BEAT_S", BEAT_S)
    main, _ = launch_of(2)
    # The other process has a name and no beating heart.
    with pytest.raises(ProcessGoneError, match=r"process 1 of 2 \(host .*\) is gone") as raised, main.watched():
        raise RuntimeError("Connection closed by peer [127.0.0.1]:1234")
    assert raised.value.exit_code == 75


def test_any_other_error_is_left_as_it_is_where_all_live(monkeypatch):
    monkeypatch.setattr("bertkit.train.processes.BEAT_S", BEAT_S)
    store, told = HashStore(), []
    main = Processes(0, 2, store)
    other = started(store, 1, 2, told)
    wait_until(lambda: beats(store, 1) > 2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), main.watched():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    other.stop()
