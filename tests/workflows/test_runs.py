"""A run folder belongs to one run and to one process at a time; a signal in the last moment is no end of a run."""

import os
import signal
from types import SimpleNamespace

import pytest

from bertkit.config.load import find_recipe, load_config
from bertkit.config.schema import EveryConfig, PretrainConfig
from bertkit.errors import CheckpointError, ConfigError
from bertkit.lock import LOCK_FILE, FolderInUseError
from bertkit.train.state import TrainState
from bertkit.workflows.runs import RunFolder, kept_whole, write_aside
from bertkit.workflows.training import drive
from bertkit.workflows.watch import TrainingStatus, Unwatched


@pytest.fixture
def config():
    return load_config(PretrainConfig, find_recipe("tiny"), options={"corpus": "corpus"})


def test_a_claimed_folder_is_refused_to_others_and_left_as_it_is_until_it_is_closed(config, tmp_path):
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    assert first.claim(config)
    before = {path.name: path.stat().st_mtime_ns for path in first.path.iterdir()}
    with pytest.raises(FolderInUseError, match=f"run is in use by another bertkit .pid {os.getpid()} "):
        second.claim(config)
    assert {path.name: path.stat().st_mtime_ns for path in first.path.iterdir()} == before
    first.close()
    assert not second.claim(config)
    second.close()
    assert sorted(path.name for path in first.path.iterdir()) == ["config.yaml", "environment.json"]


def test_what_a_process_left_that_was_killed_before_it_wrote_anything_is_no_hindrance(config, tmp_path):
    (tmp_path / LOCK_FILE).write_text("pid 1 on somewhere\n")
    run = RunFolder(tmp_path)
    run.claim(config)
    run.close()
    assert run.is_run()


def test_a_folder_of_something_else_is_refused_without_a_trace(config, tmp_path):
    (tmp_path / "letter.txt").write_text("dear all")
    with pytest.raises(ConfigError, match="is not a run folder"):
        RunFolder(tmp_path).claim(config)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_abandoned_run_is_gone_and_can_be_claimed_anew(config, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.claim(config)
    (run.store / "shards").mkdir(parents=True)
    run.abandon()
    assert not run.path.exists()
    assert RunFolder(tmp_path / "run").claim(config)


def test_a_run_with_a_part_of_a_store_is_not_abandoned(config, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.claim(config)
    (run.store / "shards").mkdir(parents=True)
    (run.store / "shards/train-00000.arrow").write_bytes(b"")
    run.abandon()
    assert (run.store / "shards/train-00000.arrow").exists()
    run.close()


def test_what_a_run_keeps_is_whole_or_a_line_says_why_not(tmp_path):
    with kept_whole(tmp_path / "new/folder/file") as aside:
        aside.write_text("all of it")
    assert (tmp_path / "new/folder/file").read_text() == "all of it"
    with pytest.raises(CheckpointError, match="inside cannot be written: .*; mend that and run it again"):
        write_aside(tmp_path / "new/folder/file/inside", "text")


@pytest.mark.parametrize("when", ["evaluate", "save"])
def test_a_signal_while_the_last_step_is_evaluated_or_saved_stops_the_run(when):
    calls = []

    def called(name):
        calls.append(name)
        if name == when:
            os.kill(os.getpid(), signal.SIGTERM)
        return {}

    state = TrainState(model=None, optimizer=None)

    def steps():
        state.step += 1
        yield SimpleNamespace(losses={}, accuracies={}, grad_norm=SimpleNamespace(detach=float), tokens=1,
                              learning_rate=0.1), TrainingStatus(1, 1.0, 1.0, "the end")  # fmt: skip

    stopped_by = drive(
        steps(),
        state,
        accelerator=SimpleNamespace(num_processes=1),
        every=EveryConfig(log_steps=10**9, evaluate_steps=1, save_steps=None, save_minutes=None),
        log=SimpleNamespace(write=lambda row: None),
        watch=Unwatched(),
        evaluate=lambda: called("evaluate"),
        save=lambda: called("save"),
    )
    assert stopped_by == "SIGTERM"
    assert calls == ["evaluate", "save"]
