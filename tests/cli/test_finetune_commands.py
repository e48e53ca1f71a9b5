"""bertkit finetune, check and evaluate, as somebody types them."""

import json
import subprocess
import sys

import pytest
import yaml
from toy_tasks import write_bert, write_examples
from typer.testing import CliRunner

from bertkit.cli import app

runner = CliRunner()
QUICK = [
    "--set=task.max_seq_length=32",
    "--set=train.epochs=1",
    "--set=train.precision=fp32",
    "--set=every.log_steps=2",
]


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("data"), "classification")


@pytest.fixture(scope="module")
def finished(bert, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mine"
    result = run("finetune", "classify", "--train", data, "--from", bert, *QUICK, "--output-dir", folder)
    assert result.exit_code == 0, result.output
    return folder, result


def test_finetune_tells_what_it_decided_and_ends_with_scores(finished):
    folder, result = finished
    said = " ".join(result.stderr.split())
    assert "guessed from the names of its columns" in said
    assert "set aside to be scored" in said
    assert "heldout: accuracy" in result.stdout
    assert str(folder / "export") in result.stdout.replace("\n", "")


def test_the_resolved_config_says_what_was_decided(finished):
    folder, _ = finished
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["task"]["problem"] == "classification"
    assert (config["task"]["texts"], config["task"]["label"]) == (["text"], "label")
    assert None not in (config["optim"]["learning_rate"], config["train"]["epochs"], config["task"]["doc_stride"])


def test_evaluate_scores_a_run_again_and_other_data_too(finished, data):
    folder, _ = finished
    assert "heldout: accuracy" in run("evaluate", folder).stdout
    results = json.loads((folder / "results.json").read_text())
    assert json.loads(run("evaluate", folder, "--json").stdout)["scores"] == results["scores"]
    other = json.loads(run("evaluate", folder, "--data", data, "--json").stdout)
    assert other["scores"]["data"]["num_examples"] == 48
    assert (folder / "evaluations" / "train.predictions.jsonl").is_file()


def test_mnli_is_scored_on_both_its_splits_and_its_model_on_hans(bert, tmp_path):
    (tmp_path / "MNLI").mkdir()
    header = "\t".join(["index", *"abcdefg", "sentence1", "sentence2", "label1", "gold_label"])
    labels = ("entailment", "neutral", "contradiction")
    rows = ["\t".join([str(n), *"abcdefg", f"the cat {n}", "sat on", "x", labels[n % 3]]) for n in range(24)]
    for name in ("train", "dev_matched", "dev_mismatched"):
        (tmp_path / f"MNLI/{name}.tsv").write_text("\n".join([header, *rows]) + "\n")
    folder = tmp_path / "runs/mnli"
    command = ["finetune", "glue", "mnli", "--data-dir", tmp_path, "--from", bert, *QUICK, "--output-dir", folder]
    shown = run(*command).stdout
    assert "validation_matched: accuracy" in shown
    assert "validation_mismatched: accuracy" in shown
    (tmp_path / "heuristics_evaluation_set.txt").write_text(
        "gold_label\ta\tb\tc\td\tsentence1\tsentence2\tpairID\theuristic\tsubcase\ttemplate\n"
        "entailment\t\t\t\t\tthe cat sat\tthe cat\tex0\tsubsequence\tx\ty\n"
        "non-entailment\t\t\t\t\tthe mat sat\tthe cat\tex1\tlexical_overlap\tx\ty\n"
    )
    result = run("evaluate", folder, "--data", "hans", "--data-dir", tmp_path, "--json")
    assert result.exit_code == 0, result.output
    other = run("evaluate", folder, "--data", tmp_path / "MNLI/dev_matched.tsv", "--json")
    assert json.loads(other.stdout)["scores"]["data"]["num_examples"] == 24
    (scores,) = json.loads(result.stdout)["scores"].values()
    assert set(scores["by_heuristic"]) == {"subsequence", "lexical_overlap"}
    refused = run("finetune", "hans")
    assert refused.exit_code == 2


def test_seeds_give_mean_and_deviation_and_finished_ones_are_not_run_again(bert, data, tmp_path):
    command = ["finetune", "classify", "--train", data, "--from", bert, *QUICK, "--seeds", 2]
    command += ["--output-dir", tmp_path / "suite"]
    figures = json.loads(run(*command, "--json").stdout)["figures"]["train"]
    assert figures["runs"] == 2
    values = figures["heldout_accuracy"]["values"]
    assert figures["heldout_accuracy"]["mean"] == pytest.approx(sum(values) / 2)
    again = run(*command)
    assert again.stderr.count("is finished already") == 2
    from bertkit.config.finetune import FinetuneConfig
    from bertkit.workflows.runs import RunFolder
    from bertkit.workflows.suite import Cell, run_cells

    first = tmp_path / "suite" / "seed-0"
    run_cells([Cell(RunFolder(first).read_config(FinetuneConfig), first)], tmp_path / "suite")
    shown = run("evaluate", tmp_path / "suite")
    assert "deviation" in shown.stdout
    assert len(json.loads((tmp_path / "suite/results.json").read_text())["runs"]) == 2
    assert "heldout_accuracy" in shown.stdout


def test_the_papers_grid_has_eighteen_cells(bert, data):
    from pathlib import Path

    from bertkit.config.finetune import FinetuneConfig
    from bertkit.workflows.suite import grid_of

    cells = grid_of(FinetuneConfig(), Path("runs/x"), "paper")
    assert len({cell.path for cell in cells}) == 18
    assert {c.config.train.epochs for c in cells} == {2, 3, 4}
    result = run("finetune", "glue", "rte", "--grid", "papers", "--from", bert)
    assert result.exit_code == 2
    assert "there is no grid 'papers'" in " ".join(result.stderr.split())


def test_a_dry_run_shows_the_tasks_own_values_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("finetune", "glue", "mrpc", "--dry-run")
    assert result.stdout.startswith("# would run in runs/mrpc\n")
    config = yaml.safe_load(result.stdout)
    assert config["task"]["max_seq_length"] == 128
    assert config["model"]["init_from"] == "google-bert/bert-base-uncased"
    assert yaml.safe_load(run("finetune", "squad", "--dry-run").stdout)["task"]["doc_stride"] == 128
    assert yaml.safe_load(run("finetune", "glue", "rte", "--stable", "--dry-run").stdout)["model"]["reinit_layers"] == 1
    assert not list(tmp_path.iterdir())


def test_check_says_what_is_wrong_in_sentences_and_exits_2_only_where_training_would_be_wrong(bert, tmp_path):
    good = tmp_path / "good.csv"
    good.write_text("text,label\n" + "".join(f"the cat {'sat ' * n},{n % 2}\n" for n in range(40)))
    fine = run("check", "classify", "--train", good, "--from", bert)
    assert fine.exit_code == 0, fine.output
    assert "classification: 36 in train, 4 in heldout" in fine.stdout
    bad = tmp_path / "bad.csv"
    bad.write_text("text,label\nthe cat,a\n,b\nthe mat,\nthe cat,b\n")
    result = run("check", "classify", "--train", good, "--eval", bad, "--from", bert, "--json")
    findings = json.loads(result.stdout)["findings"]
    assert any("bad.csv:3" in finding["sentence"] for finding in findings)
    one = tmp_path / "one.csv"
    one.write_text("text,label\n" + "".join(f"the cat {'sat ' * n},same\n" for n in range(9)))
    assert run("check", "classify", "--train", one, "--from", bert).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "classify", "--train", "nowhere.csv"], "nowhere.csv"),
        (["finetune", "glue", "mmli"], "did you mean 'glue/mnli'?"),
        (["finetune", "glue", "rte", "--data-dir", "nowhere"], "nowhere"),
        (["finetune", "glue", "rte", "--stable", "--recipe", "paper"], "leave out --recipe"),
        (["finetune", "glue", "rte", "--recipe", "stabel"], "did you mean 'stable'?"),
        (["finetune", "glue", "rte", "--grid", "paper", "--seeds", "2"], "two searches"),
        (["finetune", "glue", "rte", "--set", "optim.lr=1"], "--set optim.lr: unknown key: did you mean"),
        (["finetune", "glue", "all", "--grid", "paper"], "one task at a time"),
        (["finetune", "glue", "ax"], "only scored"),
        (["evaluate", "nowhere"], "is not a run folder"),
        (["evaluate", "nowhere", "--text", "x"], "name it too"),
        (["evaluate", "nowhere", "--data", "x.csv"], "nowhere"),
    ],
)
def test_a_mistake_gives_one_line_that_names_it_and_exit_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one_and_speak_with_one_voice(bert, data, tmp_path, monkeypatch):
    import torch
    from safetensors.torch import load_file

    options = ["classify", "--train", data, "--from", bert, *QUICK, "--set=model.hidden_dropout_prob=0"]
    options += ["--set=model.attention_probs_dropout_prob=0", "--set=train.global_batch_size=8"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *launcher, "-m", "bertkit", "finetune", *options, "--output-dir", tmp_path / "two"]
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert run("finetune", *options, "--output-dir", tmp_path / "one").exit_code == 0
    two = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=200)
    assert two.returncode == 0, two.stderr
    first, second = (load_file(tmp_path / name / "export/model.safetensors") for name in ("one", "two"))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    assert two.stdout.count("Fine-tuned") == 1
