"""Results say where they come from: data, machine, command, cost; and no path of this machine."""

import json
import sys

import pytest
from toy_finished import write_finetuned, write_pretrained
from transformers import AutoModelForPreTraining, AutoModelForSequenceClassification

from bertkit.data.store import TokenStore
from bertkit.errors import ConfigError
from bertkit.workflows import provenance as provenance_module
from bertkit.workflows.evaluate import evaluate
from bertkit.workflows.provenance import _named

COMMON = {
    *("bertkit", "command", "seed", "precision", "parameters", "hardware", "python", "system", "packages", "base"),
    *("data", "elapsed_s", "tokens", "energy_kwh", "energy_measured_by"),
}


@pytest.fixture(scope="module")
def pretrained(corpus_dir, tmp_path_factory):
    return write_pretrained(corpus_dir, tmp_path_factory.mktemp("runs") / "base")


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory):
    return write_finetuned(tmp_path_factory.mktemp("tasks"))


def results(run):
    return json.loads((run / "results.json").read_text())


def test_a_pretraining_run_names_its_corpus_its_size_and_its_cost(pretrained, corpus_dir):
    found = results(pretrained)["provenance"]
    store = TokenStore.open(pretrained / "store")
    assert set(found) == COMMON
    assert found["data"] == {
        "name": corpus_dir.name,
        "hub_id": None,
        "fingerprint": store.fingerprint,
        "documents": store.split("train").num_documents,
        "sentences": store.split("train").num_sentences,
        "tokens": store.split("train").num_tokens,
        "heldout_documents": store.split("heldout").num_documents,
        "vocab_size": store.manifest.vocab_size,
    }
    assert found["tokens"] > 0
    assert found["elapsed_s"] > 0
    assert found["base"] is None


def test_a_finetuning_run_names_its_files_its_examples_and_its_model(finetuned):
    found = results(finetuned)["provenance"]
    assert set(found) == COMMON
    assert found["data"]["files"] == ["train.jsonl"]
    assert found["data"]["train_examples"] == results(finetuned)["num_train_examples"]
    assert found["data"]["fingerprint"] == results(finetuned)["data_hash"]
    assert found["data"]["evaluate_examples"] == {"heldout": results(finetuned)["scores"]["heldout"]["num_examples"]}
    assert found["base"] == {"name": "bert", "hub_id": None}
    assert found["precision"] == "fp32"


def test_the_parameters_are_those_of_the_model_that_was_exported(pretrained, finetuned):
    for run, model_class in (
        (pretrained, AutoModelForPreTraining),
        (finetuned, AutoModelForSequenceClassification),
    ):
        model = model_class.from_pretrained(run / "export")
        assert results(run)["provenance"]["parameters"] == sum(p.numel() for p in model.parameters())


def test_no_path_of_this_machine_is_told(pretrained, finetuned, tmp_path_factory):
    base = str(tmp_path_factory.getbasetemp())
    for run in (pretrained, finetuned):
        assert base in (run / "config.yaml").read_text()
        assert base not in json.dumps(results(run)["provenance"])


def test_a_secret_in_the_command_is_not_told(corpus_dir, tmp_path, monkeypatch):
    token = "hf_" + "canary" * 6
    monkeypatch.setattr(sys, "argv", ["bertkit", "pretrain", "/secret/place", "--set", f"x={token}"])
    run = write_pretrained(corpus_dir, tmp_path / "run")
    assert results(run)["provenance"]["command"] == ["bertkit", "pretrain", "place", "--set", "x=hf_***"]


def test_a_second_evaluation_keeps_where_the_results_come_from(pretrained):
    before = results(pretrained)
    evaluate(pretrained)
    assert results(pretrained) == before


def test_results_of_an_older_bertkit_are_scored_again_without_inventing_anything(pretrained, tmp_path):
    before = results(pretrained)
    (pretrained / "results.json").write_text(json.dumps({"step": before["step"], "heldout": {}}))
    evaluate(pretrained)
    assert results(pretrained) == {name: value for name, value in before.items() if name != "provenance"}
    (pretrained / "results.json").write_text(json.dumps(before))


def test_a_finished_run_started_again_keeps_its_first_command_and_its_cost(pretrained, corpus_dir, monkeypatch):
    before = results(pretrained)["provenance"]
    monkeypatch.setattr(sys, "argv", ["bertkit", "pretrain", "runs/base"])
    write_pretrained(corpus_dir, pretrained)
    assert results(pretrained)["provenance"] == before


def test_a_run_without_held_out_text_has_results_too(corpus_dir, tmp_path):
    run = write_pretrained(corpus_dir, tmp_path / "run", data={"heldout_share": 0.0})
    assert results(run)["heldout"] == {}
    assert results(run)["provenance"]["data"]["heldout_documents"] == 0


@pytest.mark.parametrize(
    ("location", "hub_id"),
    [
        ("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("runs/base", None),
        ("here", None),
        ("/gone/away", None),
        ("s3://bucket/x", None),
    ],
)
def test_only_what_is_not_here_and_reads_like_one_is_a_hub_id(location, hub_id, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "here").mkdir()
    assert _named(location)["hub_id"] == hub_id


def test_energy_is_counted_when_asked_for(corpus_dir, tmp_path):
    run = write_pretrained(corpus_dir, tmp_path / "run", every={"energy": True})
    found = results(run)["provenance"]
    assert found["energy_kwh"] > 0
    assert found["energy_measured_by"].startswith("codecarbon ")
    assert json.loads((run / provenance_module.ENERGY_FILE).read_text())["kwh"] == found["energy_kwh"]


def test_energy_without_its_package_names_the_installation(corpus_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("bertkit.train.energy.is_installed", lambda name: False)
    with pytest.raises(ConfigError, match=r"pip install codecarbon"):
        write_pretrained(corpus_dir, tmp_path / "run", every={"energy": True})
    with pytest.raises(ConfigError, match=r"pip install codecarbon"):
        write_finetuned(tmp_path, every__energy=True)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "classification").exists()
