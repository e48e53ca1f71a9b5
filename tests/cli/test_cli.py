"""The command line: its options are a promise, its errors one line, its answers for people and for machines."""

import json
import signal
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

import bertkit
from bertkit.cli import app

runner = CliRunner()

# What every command that runs or tells something may have beside its own options.
HOUSE = {"--output-dir", "--nproc", "--set", "--dry-run", "--json"}
# Like --set, --feature-based says how training is done, in the same words on every command that fine-tunes.
FINETUNING = {"--feature-based", *HOUSE}
NAMED = {"--from", "--data-dir", "--recipe", "--seeds", "--grid", "--stable", "--retry-collapsed", *FINETUNING}
OWN = {"--train", "--eval", "--from", "--recipe", "--seeds", "--stable", *FINETUNING}
CHECK_NAMED = {"--from", "--data-dir", "--set", "--json"}
CHECK_OWN = {"--train", "--eval", "--from", "--set", "--json"}
OPTIONS = {
    **{f"finetune {name}": NAMED for name in ("glue", "squad", "squad2", "conll2003", "swag")},
    "finetune classify": OWN | {"--text", "--label"},
    "finetune tag": OWN,
    "finetune qa": OWN,
    "finetune choose": OWN - {"--stable"} | {"--text", "--label", "--choice"},
    **{f"check {name}": CHECK_NAMED for name in ("glue", "squad", "squad2", "conll2003", "swag")},
    "check classify": CHECK_OWN | {"--text", "--label"},
    "check tag": CHECK_OWN,
    "check qa": CHECK_OWN,
    "check choose": CHECK_OWN | {"--text", "--label", "--choice"},
    "predict": {"--output", "--text", "--sentence", "--probabilities"},
    "doctor": {"--json"},
    "embed": {"--output", "--layers", "--level", "--pooling", "--text", "--half", "--json"},
    "explain": {"--from", "--seed", "--max-seq-length", "--json"},
    "serve": {"--host", "--port", "--allow-host", "--max-chars", "--timeout", "--open", "--json"},
    "report": {"--output", "--open", "--json"},
    "submit glue": {"--data-dir", "--output"},
    "pretrain": {"--recipe", "--from", "--max-minutes", *HOUSE},
    "ablate": {
        *("--table", "--tasks", "--data-dir", "--budget", "--seeds", "--recipe", "--parallel"),
        *("--output-dir", "--set", "--dry-run", "--json"),
    },
    "prepare": {"--output-dir", "--executor", "--recipe", "--set", "--dry-run", "--json"},
    "evaluate": {"--data", "--data-dir", "--text", "--label", "--json"},
    "export": {"--to", "--int8", "--output-dir", "--json"},
    "card": {"--output", "--repo-id", "--license", "--language"},
    "push-to-hub": {
        *("--private", "--format", "--include", "--license", "--language", "--message", "--revision", "--create-pr"),
        *("--dry-run", "--json"),
    },
    "demo": {"--output-dir", "--max-minutes", "--set", "--json"},
    "plan": {"--recipe", "--max-minutes", "--set", "--json"},
    "bench": {"--recipe", "--corpus", "--data-dir", "--against", "--rounds", "--set", "--json"},
    "recipes ls": {"--json"},
    "recipes show": set(),
    "recipes cp": set(),
    "recipes schema": {"--finetune", "--json"},
}
SMALL = [
    "--recipe=tiny",
    "--set=train.epochs=null",
    "--set=train.max_steps=4",
    "--set=train.global_batch_size=8",
    "--set=model.hidden_size=32",
    "--set=model.intermediate_size=64",
    "--set=data.tokenizer.vocab_size=120",
    "--set=data.num_workers=1",
    "--set=data.heldout_share=0.1",
    "--set=every.log_steps=2",
]


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def commands(group=None, prefix=""):
    import typer

    group = group or typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_commands_and_options_are_exactly_the_promised_ones():
    found = {
        name: {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
        for name, command in commands()
    }
    assert {name: options - {"--help"} for name, options in found.items()} == OPTIONS


def test_no_command_has_more_than_eight_options_of_its_own():
    assert max(len(options - FINETUNING) for options in OPTIONS.values()) <= 8


def test_every_command_explains_itself_with_help():
    for name in OPTIONS:
        result = run(*name.split(), "--help")
        assert result.exit_code == 0
        assert len(result.output.splitlines()) > 5


def test_help_imports_nothing_heavy():
    script = "import sys; from bertkit.cli import app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "datasets", "accelerate", "numpy", "pyarrow", "pydantic"} & set(loaded)


def test_the_version_is_printed():
    assert run("--version").output == f"bertkit {bertkit.__version__}\n"


@pytest.fixture(scope="module")
def finished(corpus_dir, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "mine"
    result = run("pretrain", corpus_dir, *SMALL, "--output-dir", run_dir)
    assert result.exit_code == 0, result.output
    return run_dir, result


def test_pretrain_tells_what_it_does_and_ends_with_scores_beside_their_baselines(finished):
    run_dir, result = finished
    assert "step 2 (50%" in result.stderr
    for words in ("masked LM loss", "word frequencies alone", "next sentence accuracy", "always the same answer"):
        assert words in result.stdout
    assert str(run_dir / "export") in result.stdout.replace("\n", "")


def test_the_same_command_and_the_run_folder_alone_both_continue_a_run(finished, corpus_dir):
    run_dir, _ = finished
    for arguments in ([corpus_dir, *SMALL, "--output-dir", run_dir], [run_dir]):
        result = run("pretrain", *arguments, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["step"] == 4


def test_evaluate_for_people_and_for_machines(finished):
    run_dir, _ = finished
    assert "masked LM perplexity" in run("evaluate", run_dir).stdout
    scores = json.loads(run("evaluate", run_dir, "--json").stdout)["heldout"]
    assert {"mlm_loss", "mlm_accuracy", "mlm_perplexity", "nsp_accuracy", "unigram_entropy"} <= set(scores)


def test_export_prints_the_folder_it_wrote(finished, tmp_path):
    run_dir, _ = finished
    result = run("export", run_dir, "--output-dir", tmp_path / "bert")
    assert result.stdout.strip().endswith("bert")
    assert json.loads((tmp_path / "bert" / "config.json").read_text())["model_type"] == "bert"


def test_prepare_makes_a_store_and_recognises_it_the_second_time(corpus_dir, tmp_path):
    arguments = [
        "prepare",
        corpus_dir,
        "--output-dir",
        tmp_path / "data",
        "--set=data.num_workers=1",
        "--set=data.tokenizer.vocab_size=120",
        "--json",
    ]
    assert json.loads(run(*arguments).stdout)["reused"] is False
    assert json.loads(run(*arguments).stdout)["reused"] is True


def test_a_dry_run_shows_the_whole_config_and_writes_nothing(corpus_dir, tmp_path):
    result = run("pretrain", corpus_dir, *SMALL, "--output-dir", tmp_path / "run", "--dry-run")
    assert yaml.safe_load(result.stdout)["train"]["max_steps"] == 4
    assert not (tmp_path / "run").exists()


def test_the_run_folder_is_named_after_corpus_and_recipe(corpus_dir):
    result = run("pretrain", corpus_dir, *SMALL, "--dry-run")
    assert result.stdout.startswith(f"# would run in runs/{corpus_dir.name}-tiny\n")


def test_max_minutes_takes_the_place_of_the_recipes_length(corpus_dir):
    config = yaml.safe_load(run("pretrain", corpus_dir, "--recipe=mini", "--max-minutes=3", "--dry-run").stdout)
    assert (config["train"]["max_minutes"], config["train"]["epochs"]) == (3, None)
    both = run("pretrain", corpus_dir, "--recipe=mini", "--max-minutes=3", "--set=train.max_steps=20", "--dry-run")
    assert both.exit_code == 2
    assert "exactly one of" in both.stderr


def test_a_run_takes_no_options_that_would_be_ignored(finished):
    run_dir, _ = finished
    result = run("pretrain", run_dir, "--recipe", "mini")
    assert result.exit_code == 2
    assert "goes on as it began" in " ".join(result.stderr.split())


def test_a_heading_pattern_may_hold_what_yaml_would_read_otherwise(corpus_dir):
    result = run("pretrain", corpus_dir, *SMALL, "--dry-run", "--set", "data.document=heading:^= .+: #[0-9]")
    assert yaml.safe_load(result.stdout)["data"]["document"] == "heading:^= .+: #[0-9]"


def test_a_glob_names_its_run_after_its_folder(corpus_dir):
    result = run("pretrain", f"{corpus_dir}/*.txt", *SMALL, "--dry-run")
    assert result.stdout.startswith(f"# would run in runs/{corpus_dir.name}-tiny\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "nowhere/"], "nowhere"),
        (["pretrain", ".", "--recipe", "smal"], "did you mean 'small'?"),
        (["pretrain", ".", "--set", "optim.lr=1"], "--set optim.lr: unknown key: did you mean 'optim.learning_rate'?"),
        (["pretrain", ".", "--set", "train.seed"], "is not of the form section.key=value"),
        (["pretrain", ".", "--set", "model.hidden_act=gelo"], "model.hidden_act"),
        (["pretrain", ".", "--set", "train.seed=1e30"], "train.seed"),
        (["pretrain", "s3://bucket/x"], "s3"),
        (["pretrain", "foo://bucket/x"], "foo"),
        (["evaluate", "nowhere/"], "is not a run folder"),
        (["export", "nowhere/"], "is not a run folder"),
        (["recipes", "show", "bsae"], "did you mean 'base'?"),
    ],
)
def test_a_mistake_gives_one_line_that_names_it_and_exit_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in result.output
    assert not [path for path in tmp_path.rglob("*") if path.name != "runs"]  # nothing half-made is left behind


def test_a_bug_keeps_its_traceback(monkeypatch):
    import bertkit.config.load

    monkeypatch.setattr(bertkit.config.load, "list_recipes", lambda: 1 / 0)
    assert isinstance(run("recipes", "ls").exception, ZeroDivisionError)


def test_recipes_are_listed_shown_and_copied_but_never_over_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "base-original" in json.loads(run("recipes", "ls", "--json").stdout)
    assert "hidden_size: 256" in run("recipes", "show", "mini").stdout
    assert run("recipes", "cp", "mini").stdout == "mini.yaml\n"
    again = run("recipes", "cp", "mini")
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert run("pretrain", ".", "--recipe", "mini.yaml", "--dry-run").exit_code == 0


def test_the_schema_lists_every_setting_and_is_a_json_schema():
    assert "masking.mlm_probability" in run("recipes", "schema").stdout
    assert json.loads(run("recipes", "schema", "--json").stdout)["title"] == "PretrainConfig"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_exits_as_a_shell_would(corpus_dir, tmp_path, number, code):
    command = [
        sys.executable,
        "-m",
        "bertkit",
        "pretrain",
        str(corpus_dir),
        *SMALL,
        "--output-dir",
        str(tmp_path / "run"),
    ]
    command += ["--set=train.max_steps=100000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("step 10 "):
                process.send_signal(number)
                break
        out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"stopped by {number.name}" in out
    assert list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_a_run_that_lost_its_config_is_not_taken_for_a_corpus(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lost").mkdir()
    (tmp_path / "lost/pinned.json").write_text("{}")
    (tmp_path / "lost/notes.txt").write_text("Not a corpus.\n")
    result = run("pretrain", "lost")
    assert result.exit_code == 2
    assert "lost is a run without its config.yaml" in result.stderr
    assert not (tmp_path / "runs").exists()
