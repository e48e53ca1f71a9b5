"""A clock that is set back while a run is under way changes nothing."""

import json

import pytest
from fault_runs import figures, finetune_command, hashes, pretrain_command, require_done, run

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

# An hour back every second.
BACKWARDS = (
    "import time; time.time = lambda: 4e9 - 3600 * time.monotonic(); "
    "time.time_ns = lambda: int(1e9 * time.time()); from bertkit.cli import main; main()"
)


@pytest.mark.parametrize("command", [pretrain_command, finetune_command])
def test_a_clock_going_backwards_changes_no_result(command, inputs, tmp_path):
    require_done(run(command(inputs, tmp_path / "forwards")))
    require_done(run(command(inputs, tmp_path / "backwards"), program=("-c", BACKWARDS)))
    assert hashes(tmp_path / "forwards") == hashes(tmp_path / "backwards")
    assert figures(tmp_path / "forwards") == figures(tmp_path / "backwards")
    rows = [json.loads(line) for line in (tmp_path / "backwards/metrics.jsonl").read_text().splitlines()]
    elapsed_s = [row["elapsed_s"] for row in rows if "elapsed_s" in row]
    assert elapsed_s == sorted(elapsed_s)
    assert 0 < elapsed_s[0] < elapsed_s[-1] < 100
