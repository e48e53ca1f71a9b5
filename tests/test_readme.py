"""Every command and every snippet of the README works as it stands."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from toy_corpus import write_corpus
from typer.testing import CliRunner

from bertkit.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^bertkit (.+?)(?:\s+#.*)?$", README, flags=re.MULTILINE)
SETTINGS = ("train.epochs=null", "train.max_steps=2", "model.hidden_size=32", "data.num_workers=1")
# A model that is measured in seconds.
SMALL = (
    *("model.hidden_size=32", "model.num_hidden_layers=1", "model.num_attention_heads=2", "model.intermediate_size=64"),
    *("data.tokenizer.vocab_size=120", "data.num_workers=1", "train.global_batch_size=8"),
    # Every phase is measured, and every measurement is a process.
    "train.phases=[{max_seq_length: 64}]",
)


@pytest.fixture
def desk(finished_desk, tmp_path, monkeypatch):
    """A folder as the README's reader has it: a corpus, a BERT folder, labelled files, and a run of each."""
    shutil.copytree(finished_desk, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def finished_desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("desk")
    with contextlib.chdir(folder):
        make_desk(folder)
    return folder


def make_desk(folder):
    write_corpus(folder / "corpus")
    made = CliRunner().invoke(
        app, ["pretrain", "corpus", "--recipe=tiny", *(f"--set={s}" for s in SETTINGS), "--output-dir=runs/base"]
    )
    assert made.exit_code == 0, made.output
    shutil.copytree("runs/base/export", "bert-folder")
    write_labelled_files(folder)
    reviews = ["classify", "--train=reviews.csv", "--text=review", "--label=stars", "--output-dir=runs/reviews"]
    for task in (reviews, ["glue", "rte", "--data-dir=glue_data", "--output-dir=runs/rte"]):
        made = CliRunner().invoke(app, ["finetune", *task, "--from=bert-folder", "--set=train.max_steps=2"])
        assert made.exit_code == 0, made.output


def write_labelled_files(folder):
    rows = [f"the {word} sees the dog number {number},{number % 2}" for number in range(20) for word in ("cat", "owl")]
    (folder / "reviews.csv").write_text("\n".join(["review,stars", *rows]) + "\n")
    (folder / "new.csv").write_text("review\nthe fox likes the hen\n")
    (folder / "train.conll").write_text("The O\ncat B-ANIMAL\n\n" * 20)
    rte = folder / "glue_data/RTE"
    rte.mkdir(parents=True)
    pairs = [f"{n}\tThe cat {n}.\tThe dog.\t{'not_' * (n % 2)}entailment" for n in range(20)]
    for split in ("train", "dev"):
        (rte / f"{split}.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *pairs]) + "\n")
    (rte / "test.tsv").write_text("index\tsentence1\tsentence2\n0\tThe cat.\tThe dog.\n")


def test_every_command_of_the_readme_is_accepted(desk, monkeypatch):
    for module, bound in (("bench.compare", "SECONDS_A_ROUND"), ("plan", "SECONDS_A_MEASUREMENT")):
        monkeypatch.setattr(f"bertkit.workflows.{module}.{bound}", 0.0)
    monkeypatch.setattr("bertkit.workflows.plan.SECONDS_A_LARGE_PASS", 0.1)
    monkeypatch.setattr("bertkit.workflows.bench.rates.SECONDS_A_SHAPE", 0.01)
    assert len(COMMANDS) >= 24
    for command in COMMANDS:
        arguments = shlex.split(command)
        if arguments[0] == "serve":
            # It ends when it is stopped: see below.
            continue
        if arguments[0] in ("pretrain", "finetune", "ablate"):
            arguments += ["--dry-run"]
        if arguments[0] in ("plan", "bench"):
            arguments += [f"--set={setting}" for setting in SMALL]
        if arguments[0] == "bench":
            arguments += ["--corpus=corpus", "--against=nothing", "--rounds=1", "--set=train.precision=fp32"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"bertkit {command}: {result.output}"
    page = (desk / "runs/reviews/report.html").read_text(encoding="utf-8")
    assert "confusion" in page.lower()
    assert (desk / "runs/reviews/onnx/model.onnx").is_file()


@pytest.mark.skipif(os.name == "nt", reason="a console's Ctrl-C would reach the tests, too")
def test_the_page_and_the_api_of_the_readme_are_served_until_they_are_stopped(desk):
    (command,) = (command for command in COMMANDS if command.startswith("serve "))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    arguments = [sys.executable, "-m", "bertkit", *shlex.split(command), "--port=0", "--json"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        try:
            said = b"".join(iter(process.stdout.readline, b"}\n")) + b"}"
            with urllib.request.urlopen(json.loads(said)["url"], timeout=30) as page:
                assert b"<html" in page.read()
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    assert process.returncode == 130


def test_the_fine_tuning_snippet_of_the_readme_runs(desk):
    snippet = next(
        block for block in re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL) if "FinetuneConfig" in block
    )
    exec(snippet, {})
    assert (desk / "labelled.csv").read_text().startswith("review,prediction,probability,error\n")


def test_the_python_snippet_of_the_readme_runs(desk):
    snippet = next(
        block for block in re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL) if "TokenStore" in block
    )
    names = {}
    exec(snippet, names)
    batch = names["collate"]([names["instances"][0], names["instances"][1]])
    assert batch["input_ids"].shape == batch["labels"].shape
