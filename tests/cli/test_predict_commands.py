"""bertkit predict and bertkit submit, as somebody types them."""

import json
import subprocess
import sys

import pytest
from toy_heads import write_head
from typer.testing import CliRunner

from bertkit.cli import app

runner = CliRunner()


def run(*arguments, **options):
    return runner.invoke(app, [str(argument) for argument in arguments], **options)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_head(tmp_path_factory.mktemp("model") / "stock")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("id,text\n1,the cat\n2,\n3,a mat\n")
    return path


def test_a_file_becomes_a_file_and_one_line_says_so(model, data, tmp_path):
    output = tmp_path / "out.csv"
    result = run("predict", model, data, "--output", output)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{output}: 3 rows in ")
    assert "1 of 3 rows have no prediction, and an error instead: new.csv:3 has an empty text" in result.stderr
    assert output.read_text().splitlines()[0] == "id,text,prediction,probability,error"


def test_standard_output_is_predictions_and_nothing_else(model, data):
    result = run("predict", model, data)
    assert result.stdout.splitlines()[0] == "id,text,prediction,probability,error"
    assert len(result.stdout.splitlines()) == 4
    result = run("predict", model, input="the cat\na mat\n")
    assert [json.loads(line)["text"] for line in result.stdout.splitlines()] == ["the cat", "a mat"]
    assert result.stdout == run("predict", model, "-", input="the cat\na mat\n").stdout


def test_sentences_are_given_themselves(model):
    result = run("predict", model, "--sentence", "the cat", "--sentence", "a mat", "--probabilities")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["text"] for row in rows] == ["the cat", "a mat"]
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_a_reader_that_stops_early_is_no_bug(model, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("text\n" + "the cat\n" * 4000)
    command = [sys.executable, "-m", "bertkit", "predict", str(model), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "nowhere.csv"], "there is no file 'nowhere.csv'"),
        (["MODEL", "What a film!"], "a sentence itself is given with --sentence"),
        (["MODEL", "folder"], "is a folder"),
        (["MODEL", "new.csv", "--output", "out.xlsx"], "its suffix does not say what to write"),
        (["MODEL", "new.csv", "--output", "new.csv"], "exists already"),
        (["MODEL", "new.csv", "--output", "no/out.csv"], "there is no folder no"),
        (["MODEL", "new.csv", "--output", "out.conll"], "holds tags of words"),
        (["MODEL", "new.csv", "--output", "out.json"], "holds the answers of questions"),
        (["MODEL", "new.csv", "--text", "txt"], "has no column 'txt'"),
        (["MODEL", "two.csv"], "which column is the text"),
        (["MODEL", "-", "-"], "- is given twice"),
        (["MODEL", "bytes.csv"], "0xff"),
        (["MODEL", "header.csv"], "has no rows"),
        (["nowhere", "new.csv"], "there is no folder nowhere, and HF_HUB_OFFLINE is set"),
        (["a/b/c", "new.csv"], "there is no folder a/b/c, and no model on the Hub can be called so"),
        (["runs/reviewz", "new.csv"], "there is no run runs/reviewz: runs holds reviews"),
        (["encoder", "new.csv"], "has no head to predict with"),
        (["new.csv"], "new.csv"),
    ],
)
def test_a_mistake_gives_one_line_and_exit_code_2(arguments, message, model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "two.csv").write_text("a,b\nthe cat,a mat\n")
    (tmp_path / "bytes.csv").write_bytes(b"id,te\xffxt\n1,a\n")
    (tmp_path / "header.csv").write_text("id,text\n")
    (tmp_path / "runs" / "reviews").mkdir(parents=True)
    for name in ("config.yaml", "environment.json"):
        (tmp_path / "runs" / "reviews" / name).touch()
    if "encoder" in arguments:
        write_head(tmp_path / "encoder", "PreTraining")
    before = sorted(path.name for path in tmp_path.iterdir())
    result = run("predict", *(str(model) if each == "MODEL" else each for each in arguments), input="")
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_submit_names_what_the_zip_lacks(tmp_path):
    refused = run("submit", "glue", tmp_path)
    assert refused.exit_code == 2
    assert "has no finished run of a GLUE task" in refused.stderr
