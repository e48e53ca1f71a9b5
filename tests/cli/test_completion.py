"""Shell completion: commands, options, recipes, tasks and run folders, at once and without anything heavy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bertkit
from bertkit.cli import completion

# What a shell's completion runs: the entry point of the command, under its name.
PROGRAM = """
import sys
sys.argv = ["bertkit"]
from bertkit.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def run_program(folder, **variables):
    environment = os.environ | {"PYTHONPATH": str(Path(bertkit.__file__).parents[1])} | variables
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )


def complete(line, folder):
    """What bash is offered after `line`, and the modules that were imported for it."""
    place = str(len(line.split(" ")) - 1)
    done = run_program(folder, _BERTKIT_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=place)
    assert done.returncode == 0, done.stderr
    return done.stdout.split(), set(done.stderr.split())


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with two runs, a suite of one run, and something else under runs/."""
    for name in ("books", "reviews", "mrpc/seed-0"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("corpus: x\n")
    (tmp_path / "runs/mrpc/results.json").write_text("{}")
    (tmp_path / "runs/notes").mkdir()
    (tmp_path / "runs/todo.txt").write_text("sleep")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("bertkit pretr", ["pretrain"]),
        ("bertkit pretrain --max", ["--max-minutes"]),
        ("bertkit pretrain --recipe min", ["mini"]),
        ("bertkit finetune glue m", ["mrpc", "mnli"]),
        ("bertkit finetune glue rte --recipe s", ["stable"]),
        ("bertkit recipes show finetune/p", ["finetune/paper"]),
        ("bertkit export --to saf", ["safetensors-only"]),
        ("bertkit evaluate runs/b", ["runs/books"]),
        ("bertkit predict runs/m", ["runs/mrpc", "runs/mrpc/seed-0"]),
    ],
)
def test_a_shell_is_offered_what_fits_and_nothing_heavy_is_imported_for_it(line, offered, desk):
    found, modules = complete(line, desk)
    assert found == offered
    assert not {"torch", "transformers", "datasets", "accelerate", "numpy", "pyarrow"} & modules


def test_run_folders_are_runs_and_suites_only_and_the_newest_comes_first(desk):
    os.utime(desk / "runs/reviews", (2e9, 2e9))
    assert completion.run_folders("")[0] == "runs/reviews"
    assert sorted(completion.run_folders("")) == ["runs/books", "runs/mrpc", "runs/mrpc/seed-0", "runs/reviews"]


def test_where_there_are_no_runs_nothing_is_offered_and_nothing_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert completion.run_folders("") == []
    (tmp_path / "runs").write_text("a file")
    assert completion.run_folders("") == []


def test_tasks_and_recipes_are_those_that_commands_take():
    from bertkit.config.load import find_recipe
    from bertkit.tasks.registry import find_task

    for name in completion.all_recipe_names(""):
        assert find_recipe(name).is_file()
    for name in completion.glue_tasks(""):
        assert find_task(f"glue/{name}").splits.train
    assert completion.glue_tasks_or_all("a") == ["all"]
    assert "ax" not in completion.glue_tasks("")


def test_the_script_for_a_shell_is_printed(tmp_path):
    done = run_program(tmp_path, _BERTKIT_COMPLETE="source_bash")
    assert "complete -o default -F _bertkit_completion bertkit" in done.stdout
