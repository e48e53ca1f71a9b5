"""Trackers: each gets the curves, the config and the results of a run, goes on with it, and can never end it."""

import json
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import pytest
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from toy_tasks import toy_config, write_bert, write_examples

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.load import validate_config
from bertkit.config.schema import PretrainConfig
from bertkit.errors import ConfigError
from bertkit.train import setup, trackers
from bertkit.train.setup import build_accelerator
from bertkit.train.trackers import SafeTracker, log_results, start_trackers
from bertkit.workflows.finetune import finetune
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.suite import run_cells, seeds_of


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return write_examples(folder / "data", "classification"), write_bert(folder / "bert")


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Every connection but one to this machine is an error; nobody is logged in to anything."""
    connect = socket.socket.connect

    def connect_here(self, address):
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a tracker went to the network: {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    for name in [name for name in os.environ if name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no netrc"))
    (tmp_path / "home").mkdir()


def run_with(toys, folder, *names, **changes) -> FinetuneConfig:
    config = toy_config(*toys, "classification", every__trackers=list(names), **changes)
    finetune(config, folder)
    return config


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses_of(folder):
    return {row["step"]: row["loss"] for row in rows_of(folder) if "loss" in row}


def final_accuracy(folder):
    return json.loads((folder / "results.json").read_text())["scores"]["heldout"]["accuracy"]


def stop_at(monkeypatch, step):
    """The first run that starts from now on is stopped by a signal once it has come to a step."""
    from bertkit.workflows import finetune as module

    steps = module._steps

    def stopped(*args):
        for report, status in steps(*args):
            if status.step == step:
                signal.raise_signal(signal.SIGTERM)
            yield report, status

    monkeypatch.setattr(module, "_steps", stopped)
    return lambda: monkeypatch.setattr(module, "_steps", steps)


# ---- TensorBoard ----


def read_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "trackers")).Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}, events.Tags()


def test_tensorboard_has_curves_scores_results_and_the_config(toys, tmp_path):
    run_with(toys, tmp_path / "run", "tensorboard")
    curves, tags = read_tensorboard(tmp_path / "run")
    assert curves["loss"] == pytest.approx(losses_of(tmp_path / "run"))
    assert {"learning_rate", "tokens_per_s", "grad_norm", "heldout_accuracy"} <= set(curves)
    assert list(curves["final/heldout/accuracy"].values()) == pytest.approx([final_accuracy(tmp_path / "run")])
    assert "step" not in curves
    assert tags["tensors"] == ["config/text_summary"]


def test_tensorboard_draws_a_run_that_went_on_once(toys, tmp_path, monkeypatch):
    go_on = stop_at(monkeypatch, 5)
    run_with(toys, tmp_path / "run", "tensorboard")
    assert not (tmp_path / "run/results.json").exists()
    go_on()
    run_with(toys, tmp_path / "run", "tensorboard")
    curves, _ = read_tensorboard(tmp_path / "run")
    assert curves["loss"] == pytest.approx(losses_of(tmp_path / "run"))


def test_a_run_that_collapsed_and_begins_again_is_a_new_one_to_every_tracker(toys, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    # So small a rate teaches nothing: all answers are one label, which is a collapse.
    changes = {"optim__learning_rate": 1e-9, "train__retry_collapsed": 1}
    run_with(toys, tmp_path / "run", "tensorboard", "wandb", **changes)
    assert json.loads((tmp_path / "run/results.json").read_text())["attempts"] == 2
    curves, _ = read_tensorboard(tmp_path / "run")
    assert curves["loss"] == pytest.approx(losses_of(tmp_path / "run"))
    first, second = read_wandb(tmp_path / "run")
    assert first["id"] != second["id"]


# ---- Weights & Biases ----


BLOCK, HEADER = 32768, struct.Struct("<IHB")
LAST_PARTS = (1, 4)
PATIENCE_S = 30


def wandb_records(path):
    """The records of a .wandb file, which is a log of LevelDB's format behind seven bytes of wandb's own."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, record = path.read_bytes(), 7, b""
    while place + HEADER.size <= len(content):
        if BLOCK - place % BLOCK < HEADER.size:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = HEADER.unpack_from(content, place)
        place += HEADER.size
        record += content[place : place + length]
        place += length
        if kind in LAST_PARTS:
            yield Record.FromString(record)
            record = b""


def finished_records(path):
    """All records of a run, once wandb's own process has written the last."""
    until_s = time.monotonic() + PATIENCE_S
    while not (records := list(wandb_records(path))) or records[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() < until_s, [record.WhichOneof("record_type") for record in records]
        time.sleep(0.02)
    return records


def read_wandb(folder):
    """What stands in every offline run of a folder, and wandb sync would upload."""
    found = []
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        run = {"history": {}, "config": {}}
        for record in finished_records(path):
            if record.run.run_id:
                run |= {"id": record.run.run_id, "name": record.run.display_name, "project": record.run.project}
            for update in (*record.run.config.update, *record.config.update):
                run["config"][update.key or "/".join(update.nested_key)] = json.loads(update.value_json)
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            if record.WhichOneof("record_type") == "exit":
                run["exit_code"] = record.exit.exit_code
            if row:
                run["history"].setdefault(row["_step"], {}).update(row)
        found.append(run)
    return found


@pytest.mark.parametrize("mode", ["offline", None])
def test_wandb_stays_in_the_run_folder_offline_and_where_nobody_is_logged_in(toys, tmp_path, monkeypatch, caplog, mode):
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    caplog.set_level("INFO")
    monkeypatch.setattr(sys, "stdin", None)  # nobody is asked
    run_with(toys, tmp_path / "runs/reviews", "wandb")
    (run,) = read_wandb(tmp_path / "runs/reviews")
    assert (run["project"], run["name"]) == ("bertkit", "reviews")
    assert run["config"]["optim.learning_rate"] == 3e-3
    logged = {step: row["loss"] for step, row in run["history"].items() if "loss" in row}
    assert logged == pytest.approx(losses_of(tmp_path / "runs/reviews"))
    last = run["history"][max(run["history"])]
    assert last["final/heldout/accuracy"] == pytest.approx(final_accuracy(tmp_path / "runs/reviews"))
    assert ("nobody is logged in" in caplog.text) == (mode is None)


def test_wandb_goes_on_under_the_same_id_and_a_new_run_has_another(toys, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    go_on = stop_at(monkeypatch, 5)
    run_with(toys, tmp_path / "run", "wandb")
    go_on()
    run_with(toys, tmp_path / "run", "wandb")
    run_with(toys, tmp_path / "other", "wandb")
    first, second = read_wandb(tmp_path / "run")
    assert first["id"] == second["id"] == json.loads((tmp_path / "run/trackers.json").read_text())["wandb"]
    assert {*first["history"], *second["history"]} >= set(losses_of(tmp_path / "run"))
    assert read_wandb(tmp_path / "other")[0]["id"] != first["id"]


def test_secrets_of_the_config_reach_no_tracker(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "config.yaml").write_text("corpus: https://user:***@host/x\noptim:\n  name: adamw\n")
    accelerator = build_accelerator("fp32", trackers=["wandb"])
    start_trackers(accelerator, ["wandb"], tmp_path, config_file=tmp_path / "config.yaml", step=0)
    accelerator.trackers[0].finish()
    (run,) = read_wandb(tmp_path)
    assert {key: value for key, value in run["config"].items() if key != "_wandb"} == {
        "corpus": "https://user:***@host/x",
        "optim.name": "adamw",
    }


# ---- Trackio ----


@pytest.fixture
def trackio_here(tmp_path, monkeypatch):
    """trackio reads where its files go once, when it is imported."""
    import trackio
    from trackio import sqlite_storage, utils

    for module in (trackio, utils, sqlite_storage):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio", raising=False)
    trackio.context_vars.current_project.set(None)
    return trackio


def test_trackio_keeps_the_run_on_this_machine_and_goes_on_with_it(toys, tmp_path, monkeypatch, trackio_here, capsys):
    go_on = stop_at(monkeypatch, 5)
    run_with(toys, tmp_path / "runs/reviews", "trackio")
    go_on()
    run_with(toys, tmp_path / "runs/reviews", "trackio")
    runs = list(trackio_here.Api().runs("bertkit"))
    assert [run.name for run in runs] == ["reviews"]
    rows = trackio_here.sqlite_storage.SQLiteStorage.get_logs("bertkit", "reviews")
    assert {row["step"]: row["loss"] for row in rows if "loss" in row} == pytest.approx(
        losses_of(tmp_path / "runs/reviews")
    )
    assert any("final/heldout/accuracy" in row for row in rows)
    # Standard output belongs to results.
    assert capsys.readouterr().out == ""


# ---- MLflow ----


def read_mlflow(folder):
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=trackers._mlflow_uri(folder.resolve()))
    (experiment,) = client.search_experiments(filter_string="name = 'bertkit'")
    return client, client.search_runs([experiment.experiment_id])


def test_mlflow_has_its_store_in_the_run_folder_and_goes_on_with_the_run(toys, tmp_path, monkeypatch):
    go_on = stop_at(monkeypatch, 5)
    run_with(toys, tmp_path / "runs/reviews", "mlflow")
    go_on()
    # How a run is executed may change, and a parameter of MLflow's may not.
    run_with(toys, tmp_path / "runs/reviews", "mlflow", every__keep_checkpoints=3)
    client, (run,) = read_mlflow(tmp_path / "runs/reviews")
    assert (run.info.run_name, run.info.status) == ("reviews", "FINISHED")
    assert run.data.params["optim.learning_rate"] == "0.003"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert {each.step: each.value for each in history} == pytest.approx(losses_of(tmp_path / "runs/reviews"))
    assert run.data.metrics["final/heldout/accuracy"] == pytest.approx(final_accuracy(tmp_path / "runs/reviews"))


def test_mlflow_keeps_artifacts_in_the_run_folder_and_leaves_the_working_folder_alone(toys, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run_with(toys, tmp_path / "run", "mlflow")
    client, (run,) = read_mlflow(tmp_path / "run")
    assert run.info.artifact_uri.startswith((tmp_path / "run").as_uri())
    client.log_text(run.info.run_id, "a note", "note.txt")
    assert [path.read_text() for path in (tmp_path / "run").rglob("note.txt")] == ["a note"]
    assert not list((tmp_path / "here").iterdir())


@pytest.mark.parametrize(
    ("there", "installed", "store"),
    [
        ([], ["sqlalchemy", "alembic"], "mlflow.db"),
        ([], ["sqlalchemy"], "mlruns"),
        ([], [], "mlruns"),
        (["mlruns"], ["sqlalchemy", "alembic"], "mlruns"),
        (["mlflow.db"], [], "mlflow.db"),
    ],
)
def test_mlflow_goes_on_with_the_store_it_has_and_a_database_needs_both_its_packages(
    there, installed, store, tmp_path, monkeypatch
):
    monkeypatch.setattr(trackers, "is_installed", lambda name: name in installed)
    for name in there:
        (tmp_path / name).mkdir() if name == "mlruns" else (tmp_path / name).touch()
    assert trackers._mlflow_uri(tmp_path).endswith(f"/{store}")


def test_the_store_that_the_environment_names_is_mlflows(toys, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "elsewhere").as_uri())
    run_with(toys, tmp_path / "run", "mlflow")
    assert (tmp_path / "elsewhere").is_dir()
    assert not (tmp_path / "run/mlruns").exists()


# ---- several at once, several runs, failures ----


def test_of_several_seeds_each_has_a_run_of_its_own_in_every_tracker(toys, tmp_path, monkeypatch, trackio_here):
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = toy_config(*toys, "classification", every__trackers=["wandb", "trackio", "mlflow"], train__epochs=0.5)
    run_cells(seeds_of(config, tmp_path / "runs/cola", 2), tmp_path / "runs/cola")
    seeds = [tmp_path / f"runs/cola/seed-{seed}" for seed in (0, 1)]
    assert [run["name"] for seed in seeds for run in read_wandb(seed)] == ["cola/seed-0", "cola/seed-1"]
    assert [run.info.run_name for seed in seeds for run in read_mlflow(seed)[1]] == ["cola/seed-0", "cola/seed-1"]
    assert {run.name for run in trackio_here.Api().runs("bertkit")} == {"cola/seed-0", "cola/seed-1"}


def test_a_run_that_a_signal_stopped_is_no_finished_one(toys, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    go_on = stop_at(monkeypatch, 5)
    run_with(toys, tmp_path / "run", "mlflow", "wandb")
    assert read_mlflow(tmp_path / "run")[1][0].info.status == "KILLED"
    go_on()
    run_with(toys, tmp_path / "run", "mlflow", "wandb")
    assert read_mlflow(tmp_path / "run")[1][0].info.status == "FINISHED"
    assert [run["exit_code"] for run in read_wandb(tmp_path / "run")] == [255, 0]


@pytest.mark.parametrize(
    ("error", "status", "exit_code"), [(RuntimeError("a bug"), "FAILED", 1), (KeyboardInterrupt(), "KILLED", 255)]
)
def test_a_run_that_crashed_is_no_finished_one(toys, tmp_path, monkeypatch, error, status, exit_code):
    from bertkit.workflows import finetune as module

    monkeypatch.setenv("WANDB_MODE", "offline")
    config = toy_config(*toys, "classification", every__trackers=["mlflow", "wandb"])

    def crash(*args):
        raise error

    # A folder without a checkpoint goes with the run that failed.
    monkeypatch.setattr(module.RunFolder, "abandon", lambda self: None)
    monkeypatch.setattr(module, "_best_checkpoint", crash)
    with pytest.raises(type(error)):
        finetune(config, tmp_path / "run")
    assert read_mlflow(tmp_path / "run")[1][0].info.status == status
    assert [run["exit_code"] for run in read_wandb(tmp_path / "run")] == [exit_code]


def test_a_pretraining_that_crashed_is_no_finished_one(store, tmp_path, monkeypatch):
    from bertkit.workflows import pretrain as module

    def crash(*args):
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, "_score", crash)
    with pytest.raises(RuntimeError):
        pretrain(pretraining(store, "mlflow"), tmp_path / "run")
    assert read_mlflow(tmp_path / "run")[1][0].info.status == "FAILED"


@pytest.mark.parametrize(
    ("folder", "name"), [("runs/reviews", "reviews"), ("runs/cola/seed-0", "cola/seed-0"), ("x/runs", "runs")]
)
def test_a_run_always_has_a_name(folder, name, tmp_path):
    assert trackers._Begin(tmp_path / folder, {}, 0).name == name


class Broken(GeneralTracker):
    """Fails as a full disk does."""

    name = "broken"
    requires_logging_directory = False
    tracker = None

    def __init__(self):
        super().__init__(_blank=True)
        self.calls = []

    def log(self, values, step=None, **kwargs):
        self.calls.append(step)
        raise OSError(28, "No space left on device")

    def finish(self):
        raise RuntimeError("the server is gone")


def test_a_tracker_that_fails_in_the_middle_is_said_once_and_training_goes_on(toys, tmp_path, monkeypatch, caplog):
    broken = Broken()
    monkeypatch.setitem(trackers._STARTS, "tensorboard", lambda begin: broken)
    run_with(toys, tmp_path / "run", "tensorboard")
    assert (tmp_path / "run/results.json").is_file()
    assert len(broken.calls) == 1
    assert caplog.text.count("broken failed and is left out from here on ([Errno 28] No space left on device)") == 1
    assert "the server is gone" not in caplog.text


def test_a_tracker_that_cannot_begin_stops_a_new_run_and_is_left_out_of_one_that_goes_on(
    toys, tmp_path, monkeypatch, caplog
):
    def refuse(begin):
        raise RuntimeError("401 Unauthorized\nlong story")

    go_on = stop_at(monkeypatch, 5)
    run_with(toys, tmp_path / "run", "tensorboard")
    go_on()
    monkeypatch.setitem(trackers._STARTS, "tensorboard", refuse)
    with pytest.raises(ConfigError, match=r"tensorboard cannot begin \(401 Unauthorized\): mend that, or leave it out"):
        run_with(toys, tmp_path / "new", "tensorboard")
    assert not (tmp_path / "new").exists()
    run_with(toys, tmp_path / "run", "tensorboard")
    assert (tmp_path / "run/results.json").is_file()
    assert "tensorboard cannot go on and is left out (401 Unauthorized)" in caplog.text


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio", "mlflow"])
def test_a_missing_package_names_what_to_install(name, monkeypatch, tmp_path):
    monkeypatch.setattr(setup, "is_installed", lambda name: False)
    with pytest.raises(ConfigError, match=f"names {name}, which is not installed: pip install {name}, or leave it out"):
        build_accelerator("fp32", trackers=[name])


def test_a_folder_of_that_name_is_no_package(monkeypatch, tmp_path):
    (tmp_path / "no_such_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="pip install no_such_tracker"):
        build_accelerator("fp32", trackers=["no_such_tracker"])


def test_only_the_main_process_has_trackers(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("a: 1\n")
    monkeypatch.setattr(Accelerator, "is_main_process", property(lambda self: False))
    accelerator = build_accelerator("fp32")
    start_trackers(accelerator, ["tensorboard"], tmp_path, config_file=tmp_path / "config.yaml", step=0)
    log_results(accelerator, {"eval": {"accuracy": 1.0}}, step=1)
    assert accelerator.trackers == []
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["config.yaml"]


def pretraining(store, *names):
    values = {
        "corpus": str(store.path),
        "model": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
        "train": {"global_batch_size": 4, "max_steps": 4, "precision": "fp32", "phases": [{"max_seq_length": 32}]},
        "every": {"log_steps": 2, "evaluate_steps": 2, "trackers": list(names)},
    }
    return validate_config(PretrainConfig, values, source="test")


def test_pretraining_logs_its_heldout_scores_too(store, tmp_path):
    summary = pretrain(pretraining(store, "tensorboard"), tmp_path / "run")
    curves, _ = read_tensorboard(tmp_path / "run")
    assert set(curves["heldout_mlm_loss"]) == {2, 4}
    final = curves["final/heldout/mlm_loss"]
    assert final == {4: pytest.approx(summary.results["heldout"]["mlm_loss"])}
    assert Path(tmp_path / "run/trackers").is_dir()


def test_a_safe_tracker_hands_out_what_it_wraps():
    assert SafeTracker(Broken()).tracker is None
    assert SafeTracker(Broken()).name == "broken"
