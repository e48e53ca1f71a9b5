"""bertkit ablate as a user meets it: what it would do, what it came to, and how it says no."""

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from toy_tasks import write_examples
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.cli.ablate import Table
from bertkit.cli.ablate import _unfinished as unfinished_lines
from bertkit.config.ablate import TABLES
from bertkit.config.load import read_recipe
from bertkit.workflows.ablate.cells import Outcome
from bertkit.workflows.ablate.run import AblationSummary

runner = CliRunner()
SMALL = [
    *("--table", "features", "--recipe", "tiny", "--budget", "3steps", "--seeds", "1"),
    "--set=pretrain.train.global_batch_size=8",
    "--set=pretrain.model.hidden_size=32",
    "--set=pretrain.model.num_hidden_layers=4",
    "--set=pretrain.model.intermediate_size=64",
    "--set=pretrain.data.tokenizer.vocab_size=120",
    "--set=pretrain.data.num_workers=1",
    "--set=pretrain.data.heldout_share=0.1",
    "--set=finetune.train.max_steps=2",
    "--set=finetune.train.global_batch_size=8",
    "--set=finetune.task.max_seq_length=32",
]


def run(*arguments):
    return runner.invoke(app, ["ablate", *map(str, arguments)])


@pytest.fixture(scope="module")
def tags(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("data"), "tagging", number=24)


def test_the_tables_of_the_command_line_are_those_of_the_config():
    assert get_args(Table) == TABLES


def test_a_dry_run_lists_every_cell_with_a_guess_of_the_time_and_touches_nothing(corpus_dir, tags, tmp_path):
    result = run(corpus_dir, *SMALL, "--tasks", tags, "--output-dir", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == f"# would run in {tmp_path / 'out'}"
    assert lines[1:4] == ["base", "fine-tuned/train/seed-0", "embeddings/train/seed-0"]
    assert any("1 models to pre-train: about" in line for line in lines)
    assert any("7 runs of fine-tuning: about" in line and "(train 22 examples)" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_guess_says_what_it_takes_the_bilm_for(corpus_dir, tags, tmp_path):
    arguments = [corpus_dir, *SMALL, "--tasks", tags, "--output-dir", tmp_path / "out", "--dry-run"]
    assert "biLM" not in run(*arguments).stdout
    last = run(*arguments, "--table", "objectives").stdout.splitlines()[-1]
    assert last.endswith("the biLM is taken to cost what a BERT of its shape does")


def test_a_dry_run_for_machines(corpus_dir, tags, tmp_path):
    result = run(corpus_dir, *SMALL, "--tasks", tags, "--output-dir", tmp_path / "out", "--dry-run", "--json")
    told = json.loads(result.stdout)
    assert len(told["cells"]) == 8
    assert told["cost"]["pretraining_s"] > 0
    assert told["cost"]["finetuning_s"] > 0


@pytest.mark.slow
def test_the_table_is_printed_in_the_papers_form_and_again_without_running_anything(corpus_dir, tags, tmp_path):
    arguments = (corpus_dir, *SMALL, "--tasks", tags, "--output-dir", tmp_path / "out")
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    for words in (
        "Fine-tuned",
        "Features: Concat last four hidden",
        "train (f1)",
        "Weighted sum all 12 layers",
        "96.1",
    ):
        assert words in first.stdout
    assert "[8/8]" in first.stderr
    again = run(*arguments, "--json")
    told = json.loads(again.stdout)
    assert (told["done"], told["total"], told["unfinished"], told["stopped_by"]) == (8, 8, [], None)
    assert "begins" not in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--table", "sizes", "--budget", "10"), "such as 10m, 90s"),
        (("--table", "sizes", "--tasks", "mrcp"), "did you mean 'glue/mrpc'"),
        (("--table", "sizes", "--tasks", "gone.csv"), "there is no file gone.csv"),
        (("--table", "sizes", "--tasks", "cola", "--data-dir", "gone"), "is no folder"),
        (("--table", "sizes", "--recipe", "minni"), "did you mean 'mini'"),
        (("--table", "objectives", "--set", "pretrain.objective=ltr"), "compares values of pretrain.objective"),
        (("--table", "sizes", "--set", "nonsense"), "not of the form section.key=value"),
        (("--table", "sizes", "--set", "pretrain.model.hidden_sise=3"), "hidden_size'"),
        (("--table", "sizes", "--set", "model.hidden_size=64"), "pretrain.KEY"),
        (("--table", "steps", "--budget", "2steps"), "5 steps or more"),
        (("--table", "features", "--recipe", "tiny"), "too few for features of the last 4 layers"),
        (("--table", "objectives", "--set", "pretrain.train.init_from=x"), "compares directions of reading"),
    ],
)
def test_a_mistake_is_one_red_line_and_leaves_nothing(arguments, message, corpus_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(corpus_dir, *arguments)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [("steps", "--budget", "2steps"), ("sizes", "--set", "pretraining_seeds=0")], ids=["budget", "set"]
)
def test_a_recipe_is_not_blamed_for_what_an_option_says(arguments, corpus_dir, tmp_path):
    result = run(corpus_dir, "--table", *arguments, "--output-dir", tmp_path / "out")
    assert result.exit_code == 2
    assert "error: the options: " in result.stderr
    assert "mini.yaml" not in result.stderr
    recipe = tmp_path / "own.yaml"
    recipe.write_text(read_recipe("mini") + "\ntrian: {}\n", encoding="utf-8")
    result = run(corpus_dir, "--table", *arguments, "--recipe", recipe, "--output-dir", tmp_path / "out")
    assert "own.yaml: unknown key 'trian': did you mean 'train'?" in result.stderr


def test_cells_that_are_not_run_are_counted_in_words():
    outcomes = [Outcome(f"mlm/cola/seed-{number}", "skipped", reason="there is no model mlm") for number in range(2)]
    summary = AblationSummary(Path("out"), None, (Outcome("mlm", "failed", reason="no room"), *outcomes))
    assert unfinished_lines(summary) == ["mlm: no room", "2 cells are not run: there is no model mlm"]
    summary = replace(summary, unfinished=tuple(outcomes[:1]))
    assert unfinished_lines(summary) == ["1 cell is not run: there is no model mlm"]


def test_failing_cells_are_named_and_the_exit_code_says_so(corpus_dir, tags, tmp_path):
    arguments = ["--set", "finetune.task.metric=pearson", "--output-dir", tmp_path / "out"]
    result = run(corpus_dir, *SMALL, "--tasks", tags, *arguments)
    assert result.exit_code == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith("error: fine-tuned/train/seed-0: ")
    assert "[1/8]" in result.stderr
    assert "Traceback" not in result.output
