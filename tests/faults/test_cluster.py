"""Preparing by tasks in local processes: killed, stopped, and left alone by the one that started them."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from fault_runs import ENVIRONMENT, SECONDS, kill, wait_for

pytest.importorskip("datatrove")

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

SMALL_TASKS = (
    "import bertkit.workflows.prepare_cluster.run as run; run.BYTES_A_MB = 20_000; from bertkit.cli import main; main()"
)
# A regular expression that takes long for each of these documents, and only for these.
SLOW_FILTER = "--set=data.cluster.filters=[{name: RegexFilter, arguments: {regex_exp: '(a+)+$'}}]"
SLOW_TEXT = "a" * 21 + "b"


@pytest.fixture
def reading(tmp_path):
    """A preparation whose two worker processes read, for minutes; its processes are a group of their own."""
    for number in range(4):
        (tmp_path / "corpus").mkdir(exist_ok=True)
        (tmp_path / "corpus" / f"{number}.txt").write_text("\n\n".join(f"{line} {SLOW_TEXT}" for line in range(1000)))
    command = [
        *(sys.executable, "-c", SMALL_TASKS),
        *("prepare", str(tmp_path / "corpus"), f"--output-dir={tmp_path / 'store'}", "--executor=local"),
        *("--set=data.num_workers=2", "--set=data.document=blank-line", "--set=data.cluster.task_mb=1", SLOW_FILTER),
    ]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(command, env=ENVIRONMENT, stdout=said, stderr=said, start_new_session=True)
    try:
        under_way = wait_for(lambda: len(list((tmp_path / "store").rglob("task_*.log"))) == 2, process)
        assert under_way, (tmp_path / "said").read_text()
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def processes_of(group):
    """The processes of a group that are still there."""
    return [pid for pid in psutil.pids() if _group_of(pid) == group and psutil.Process(pid).status() != "zombie"]


def _group_of(pid):
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
@pytest.mark.parametrize("to_all", [True, False])
def test_a_signal_to_one_process_or_to_all_stops_the_tasks_at_once(reading, tmp_path, name, to_all):
    number = signal.Signals[name]
    if to_all:
        os.killpg(reading.pid, number)
    else:
        reading.send_signal(number)
    assert reading.wait(SECONDS) == 128 + number, (tmp_path / "said").read_text()
    assert not list((tmp_path / "store").rglob("completions/*"))
    assert wait_for(lambda: not processes_of(reading.pid))
    spoken = (tmp_path / "said").read_text()
    assert spoken.splitlines()[-1].endswith("the same command goes on from what is already done"), spoken
    assert "Traceback" not in spoken


def test_a_killed_worker_ends_the_preparation_with_one_sentence(reading, tmp_path):
    workers = [child for child in psutil.Process(reading.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    assert reading.wait(SECONDS) == 2
    spoken = (tmp_path / "said").read_text()
    assert spoken.splitlines()[-1].startswith("error: a worker process was killed, most often because memory ran out")
    assert "Traceback" not in spoken


def test_workers_never_outlive_a_killed_preparation(reading):
    assert kill(reading)
