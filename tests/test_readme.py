"""Every command and every snippet of the README works as it stands."""

import re
import shlex
from pathlib import Path

import pytest
from toy_corpus import write_corpus
from typer.testing import CliRunner

from bertkit.cli import app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^bertkit (.+?)(?:\s+#.*)?$", README, flags=re.MULTILINE)
SETTINGS = ("train.epochs=null", "train.max_steps=2", "model.hidden_size=32", "data.num_workers=1")


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder as the README's reader has it: a corpus, a run and a BERT folder."""
    write_corpus(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(
        app, ["pretrain", "corpus", "--recipe=tiny", *(f"--set={s}" for s in SETTINGS), "--output-dir=runs/base"]
    )
    assert made.exit_code == 0, made.output
    (tmp_path / "runs/base/export").rename(tmp_path / "bert-folder")
    return tmp_path


def test_every_command_of_the_readme_is_accepted(desk):
    assert len(COMMANDS) >= 8
    for command in COMMANDS:
        arguments = shlex.split(command)
        if arguments[0] == "pretrain":
            arguments += ["--dry-run"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"bertkit {command}: {result.output}"


def test_the_python_snippet_of_the_readme_runs(desk):
    snippet = next(
        block for block in re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL) if "TokenStore" in block
    )
    names = {}
    exec(snippet, names)
    batch = names["collate"]([names["instances"][0], names["instances"][1]])
    assert batch["input_ids"].shape == batch["labels"].shape
