"""`bertkit prepare --executor` from the command line."""

import json

import pytest
from typer.testing import CliRunner

from bertkit.cli import app

SETTINGS = ["--set=data.num_workers=1", "--set=data.tokenizer.vocab_size=120", "--json"]


def run(*arguments):
    return CliRunner().invoke(app, ["prepare", *map(str, arguments), *SETTINGS])


def test_a_store_made_with_an_executor_is_the_one_made_without(corpus_dir, tmp_path):
    pytest.importorskip("datatrove")
    made = run(corpus_dir, "--output-dir", tmp_path / "store", "--executor", "local")
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["reused"] is False
    assert json.loads(run(corpus_dir, "--output-dir", tmp_path / "store").stdout)["reused"] is True


def test_an_url_without_an_executor_is_one_line(corpus_dir):
    refused = run(corpus_dir, "--output-dir", "memory://store")
    assert refused.exit_code == 2
    assert "add --executor local" in " ".join(refused.output.split())


def test_filters_are_given_on_the_command_line_too(corpus_dir, tmp_path):
    pytest.importorskip("datatrove")
    wanted = "--set=data.cluster.filters=[{name: RegexFilter, arguments: {regex_exp: The owl}}]"
    made = run(corpus_dir, "--output-dir", tmp_path / "store", "--executor=local", wanted)
    assert json.loads(made.stdout)["dropped"] == {"filtered": 3}
