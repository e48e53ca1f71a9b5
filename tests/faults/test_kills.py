"""SIGKILL at any moment: the same command goes on, ends with the very bytes of a run left in peace, and until then
nothing half-written is taken for whole."""

import json
import time
from dataclasses import dataclass
from functools import partial

import pytest
from fault_runs import (
    SMALL_SHARDS,
    figures,
    finetune_command,
    freeze_mid_write,
    fresh_random,
    hashes,
    kill,
    partial_files,
    prepare_command,
    pretrain_command,
    require_done,
    run,
    start,
)
from transformers import AutoModel

from bertkit.data.store import TokenStore
from bertkit.errors import CorpusError
from bertkit.train.checkpoint import latest_checkpoint
from bertkit.workflows.runs import RunFolder

pytestmark = pytest.mark.faults

# A hundred in all. Half of them in the middle of a write; the rest at any moment, from the start of the process on.
KILLS = {"prepare": 20, "prepare-workers": 10, "pretrain": 40, "finetune": 30}
STEPS = 150


@dataclass(frozen=True)
class Case:
    """A command, what of it is equal in equal runs, and what must hold behind every kill."""

    command: object
    outcome: object
    law: object
    program: tuple = ("-m", "bertkit")


def store_law(folder):
    if not (folder / "manifest.json").exists():
        with pytest.raises(CorpusError, match="is not finished|there is no token store"):
            TokenStore.open(folder)
        return
    assert sum(len(shard.document_offsets) - 1 for shard in TokenStore.open(folder).split("train").shards) == 27


def run_law(folder):
    """No part of a run that has its name is half of it."""
    run = RunFolder(folder)
    for file in (run.pinned_file, run.results_file, folder / "environment.json"):
        assert not file.exists() or json.loads(file.read_text())
    if run.predictions_file.exists():
        assert [json.loads(line) for line in run.predictions_file.read_text().splitlines()]
    # Fine-tuning removes its checkpoints last of all.
    if run.checkpoints.exists() and not (run.is_finetuning() and run.results_file.exists()):
        newest = max((path.name for path in run.checkpoints.glob("step-*")), default=None)
        found = latest_checkpoint(run.checkpoints)
        assert (found.path.name if found else None) == newest
    if run.export.exists():
        AutoModel.from_pretrained(run.export)
    if run.store.exists():
        store_law(run.store)


CASES = {
    "prepare": Case(prepare_command, hashes, store_law, ("-c", SMALL_SHARDS)),
    "prepare-workers": Case(
        lambda inputs, folder: prepare_command(inputs, folder, "--set=data.num_workers=2"),
        hashes,
        store_law,
        ("-c", SMALL_SHARDS),
    ),
    "pretrain": Case(partial(pretrain_command, steps=STEPS), lambda folder: (hashes(folder), figures(folder)), run_law),
    "finetune": Case(partial(finetune_command, steps=STEPS), lambda folder: (hashes(folder), figures(folder)), run_law),
}


def wait_for_a_moment(draw, process, folder, *, seconds):
    """Waits for the middle of some write, or for some time of a process that would run `seconds`."""
    if draw.random() < 0.5:
        time.sleep(draw.uniform(0, seconds))
        return
    freeze_mid_write(process, folder, writes=draw.randint(0, 12), after_s=draw.choice((0, 0.0005, 0.001, 0.003)))


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_run_killed_again_and_again_ends_as_if_left_in_peace(name, inputs, tmp_path):
    case, draw, kills, mid_write, finished = CASES[name], fresh_random(), 0, 0, 0
    began_s = time.monotonic()
    require_done(run(case.command(inputs, tmp_path / "peace"), program=case.program))
    seconds = time.monotonic() - began_s
    expected = case.outcome(tmp_path / "peace")
    while kills < KILLS[name]:
        folder = tmp_path / f"killed-{finished}"
        before = partial_files(folder)
        process = start(case.command(inputs, folder), program=case.program, log=tmp_path / "log")
        wait_for_a_moment(draw, process, folder, seconds=seconds)
        if kill(process):
            kills, mid_write = kills + 1, mid_write + bool(partial_files(folder) - before)
            case.law(folder)
        else:
            # It was done before it could be killed: the next kills are a run of its own.
            assert process.returncode == 0, (tmp_path / "log").read_text()
            assert case.outcome(folder) == expected
            finished += 1
    require_done(run(case.command(inputs, folder), program=case.program))
    assert case.outcome(folder) == expected
    assert not partial_files(folder)
    assert mid_write >= KILLS[name] // 5 or name == "prepare-workers"
    print(f"{name}: {kills} kills, {mid_write} of them in the middle of a write, {finished + 1} runs to their end")
