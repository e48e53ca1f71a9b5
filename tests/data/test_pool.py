"""Work in processes: in order, and without running the script that asked for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bertkit.data.pool import ordered_map
from bertkit.errors import CorpusError

# No `if __name__ == "__main__"`: a worker that ran this again would print, and start workers of its own.
SCRIPT = """
from bertkit.data.pool import ordered_map
print("began")
print(list(ordered_map(abs, range(-20, 0), num_workers=2)), __file__ != "", __spec__)
"""


def test_results_come_in_order_whoever_works():
    for num_workers in (1, 2):
        assert list(ordered_map(abs, range(-20, 0), num_workers=num_workers)) == list(range(20, 0, -1))


def test_a_script_without_a_main_guard_is_not_run_again_by_the_workers(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py")]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout == f"began\n{list(range(20, 0, -1))} True None\n"


def test_a_killed_worker_is_one_sentence():
    with pytest.raises(CorpusError, match="a worker process was killed"):
        list(ordered_map(os._exit, [1], num_workers=2))
