"""Runs on a token store at a URL, and runs that were begun when a large store was read in another order."""

import json
import uuid

import fsspec
import pytest
from toy_shapes import TINY_MODEL
from toy_stores import write_store

from bertkit.config.load import validate_config
from bertkit.config.schema import PretrainConfig
from bertkit.data import loader
from bertkit.errors import CheckpointError, CorpusError
from bertkit.train.checkpoint import latest_checkpoint
from bertkit.whole import written_whole
from bertkit.workflows.assemble import build_loader
from bertkit.workflows.bench.corpora import prepared_sample
from bertkit.workflows.bench.work import PretrainingWork
from bertkit.workflows.evaluate import evaluate
from bertkit.workflows.pinned import open_pinned_store
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.watch import Unwatched

TINY = {
    "model": {**TINY_MODEL, "num_hidden_layers": 1},
    "train": {
        "max_steps": 4,
        "global_batch_size": 8,
        "precision": "fp32",
        "phases": [{"max_seq_length": 32}],
    },
    "every": {"save_steps": 2, "save_minutes": None, "keep_checkpoints": 9},
}


class Down(Exception):  # noqa: N818  # no error of ours
    """What no file system of ours raises."""


class Stop(Unwatched):
    """Leaves a run after a step, as a kill would."""

    def __init__(self, step):
        self.step = step

    def training(self, status):
        if status.step >= self.step:
            raise KeyboardInterrupt


@pytest.fixture
def url(store):
    memory = fsspec.filesystem("memory")
    name = f"memory://bucket-{uuid.uuid4().hex}/store"
    memory.put(str(store.path), name, recursive=True)
    yield name
    memory.rm(name, recursive=True)


def config_of(corpus, tmp_path, **data):
    values = TINY | {"corpus": str(corpus), "data": {"cache_dir": str(tmp_path / "cache"), **data}}
    return validate_config(PretrainConfig, values, source="test")


def weights(run):
    return (latest_checkpoint(run / "checkpoints").path / "model.safetensors").read_bytes()


def test_a_run_on_a_url_is_the_run_on_the_folder_and_is_scored_and_exported(store, url, tmp_path):
    folder = pretrain(config_of(store.path, tmp_path), tmp_path / "folder")
    remote = pretrain(config_of(url, tmp_path), tmp_path / "remote")
    assert weights(tmp_path / "remote") == weights(tmp_path / "folder")
    assert remote.results["heldout"] == folder.results["heldout"]
    assert (remote.export_dir / "tokenizer.json").is_file()
    assert evaluate(tmp_path / "remote") == remote.results
    assert (tmp_path / "cache").is_dir()
    assert not (tmp_path / "remote" / "store").exists()


def test_a_run_on_a_url_goes_on_with_another_cache_and_says_what_to_do_when_the_store_is_out_of_reach(
    url, tmp_path, monkeypatch
):
    undisturbed = pretrain(config_of(url, tmp_path), tmp_path / "undisturbed")
    with pytest.raises(KeyboardInterrupt):
        pretrain(config_of(url, tmp_path), tmp_path / "run", watch=Stop(3))
    elsewhere = config_of(url, tmp_path / "elsewhere", cache_gb=0.5)
    with monkeypatch.context() as patch:

        def down(*_, **__):
            raise Down("no route to host")

        patch.setattr(type(fsspec.filesystem("memory")), "cat_file", down)
        with pytest.raises(CorpusError, match="no route to host"):
            evaluate(tmp_path / "run")
    summary = pretrain(elsewhere, tmp_path / "run")
    assert summary.step == undisturbed.step == 4
    assert weights(tmp_path / "run") == weights(tmp_path / "undisturbed")


def test_another_store_put_at_the_url_is_not_gone_on_with(store, url, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        pretrain(config_of(url, tmp_path), tmp_path / "run", watch=Stop(3))
    other = write_store(tmp_path / "other", like=store, shards=3, documents=6)
    fsspec.filesystem("memory").rm(url, recursive=True)
    fsspec.filesystem("memory").put(str(other), url, recursive=True)
    with pytest.raises(CheckpointError, match="memory://.* is not the token store .* was trained on"):
        pretrain(config_of(url, tmp_path), tmp_path / "run")


def test_bench_and_plan_measure_on_a_store_at_a_url(url, store, tmp_path):
    config = config_of(url, tmp_path)
    with prepared_sample(config, url, watch=Unwatched()) as (sample, _):
        assert sample.store.location == url
        work = PretrainingWork(config, sample.store.location, 0)
    expected = build_loader(config, store, phase=0).num_instances()
    assert work.loader().num_instances() == expected > 0


def begun_long_ago(run):
    """A run folder as a bertkit wrote it before the order of large stores changed."""
    pinned = json.loads(run.pinned_file.read_text())
    assert pinned.pop("data_order") == loader.DATA_ORDER
    with written_whole(run.pinned_file) as aside:
        aside.write_text(json.dumps(pinned))


def test_a_run_of_an_older_version_goes_on_in_one_block_and_is_refused_in_many(store, tmp_path, monkeypatch):
    config = config_of(store.path, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        pretrain(config, tmp_path / "run", watch=Stop(3))
    run = RunFolder(tmp_path / "run")
    begun_long_ago(run)
    assert open_pinned_store(config, run, resumes=True).fingerprint == store.fingerprint
    # The same store, were it read in many blocks.
    monkeypatch.setattr("bertkit.workflows.pinned.count_blocks", lambda split: 3)
    with pytest.raises(CheckpointError, match=r"in another order, so some text would be repeated .*--from"):
        pretrain(config, tmp_path / "run")
    assert open_pinned_store(config, run).fingerprint == store.fingerprint
    assert evaluate(run.path)["step"] == 2
