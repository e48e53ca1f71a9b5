"""`bertkit bench` and `bertkit plan` for people and for machines."""

import json

import pytest
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.cli.bench import print_result
from bertkit.workflows.bench.compare import BenchResult, Ratio, SideResult, Spread

TINY = [
    "--recipe=tiny",
    "--set=model.hidden_size=32",
    "--set=model.intermediate_size=64",
    "--set=data.tokenizer.vocab_size=120",
    "--set=data.num_workers=1",
    "--set=train.global_batch_size=8",
    "--set=train.precision=fp32",
]
RESULT_KEYS = {
    *("subject", "unit", "rounds", "steps", "machine", "settings", "sides", "ratios", "matmul_flops", "notes"),
}
SIDE_KEYS = {
    *("name", "settings", "step_s", "rate", "utilisation", "waiting_share", "peak_bytes", "base_bytes"),
}
RATIO_KEYS = {"what", "ours", "theirs", "speed", "memory", "memory_growth"}
SPREAD_KEYS = {"median", "low", "high"}
PLAN_KEYS = {
    *("documents", "tokens", "documents_read", "precision", "phases", "steps", "epochs", "tokens_to_train"),
    *("hours", "peak_bytes", "free_bytes", "machine", "notes"),
}


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_pre_training_measured_for_machines(store, monkeypatch):
    monkeypatch.setattr("bertkit.workflows.bench.compare.SECONDS_A_ROUND", 0.0)
    result = run("bench", "pretrain", "--corpus", store.path, *TINY, "--rounds", 2, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert set(found) == RESULT_KEYS
    assert [side["name"] for side in found["sides"]] == ["bertkit fp32", "transformers fp32"]
    assert [ratio["what"] for ratio in found["ratios"]] == ["equal precision, fp32", "default against default"]
    for side in found["sides"]:
        assert set(side) == SIDE_KEYS
        assert set(side["step_s"]) == SPREAD_KEYS
        assert 0 < side["utilisation"]["median"] < 1
        assert {"precision", "batch", "padding", "optimizer"} <= set(side["settings"])
    assert all(set(ratio) == RATIO_KEYS for ratio in found["ratios"])
    assert {"device", "cores", "versions"} <= set(found["machine"])
    assert {"model", "dropout", "optimizer", "data"} <= set(found["settings"])
    assert found["matmul_flops"]["fp32"]["median"] > 1e6
    assert (found["rounds"], found["steps"]) == (2, 2)
    # Both did the same tokens: step for step, the rates differ by as much as the seconds.
    ours, theirs = found["sides"]
    assert "packed" in ours["settings"]["padding"]
    assert "longest" in theirs["settings"]["padding"]


def test_start_up_measured_for_people():
    result = run("bench", "startup", "--rounds", 1)
    assert result.exit_code == 0, result.output
    for words in ("bertkit --help", "import typer, rich", "less is better", "starts/s"):
        assert words in result.stdout


def test_a_measurement_for_people_shows_spreads_ratios_and_notes(capsys):
    spread = Spread(0.5, 0.25, 0.75)
    sides = tuple(
        SideResult(name, {"precision": "fp32"}, spread, Spread(1000, 900, 1100), share, spread, 2_000_000_000, 10**9)
        for name, share in (("ours", spread), ("theirs", None))
    )
    ratios = (Ratio("equal", "ours", "theirs", Spread(2.5, 2.4, 2.6), 0.7, None),)
    machine = {"device": "cpu: a processor"}
    print_result(
        BenchResult(
            "pretrain", "real tokens/s", 3, 4, machine, {"model": "tiny"}, sides, ratios, {"fp32": spread}, ("A note.",)
        )
    )
    shown = capsys.readouterr().out
    for words in (
        *(
            "cpu: a processor",
            "precision",
            "Rounds: 3, steps in each: 4",
            "0.500 (0.250 to 0.750)",
            "1,000 (900 to 1,100)",
        ),
        *("50 % (25 to 75)", "2,000 MB", "2.50x (2.40 to 2.60)", "0.70", "A note."),
    ):
        assert words in shown


def test_a_plan_for_people_and_for_machines(store, monkeypatch):
    from bertkit.workflows import plan as planning
    from bertkit.workflows.bench.sides import Answer, Round

    def measure(config, store, phase, instances):
        tokens = 20 * instances
        return Answer(Round((0.1 * instances,), amount=tokens, largest=tokens), peak_bytes=1_000 * tokens)

    monkeypatch.setattr(planning, "_measure_pass", measure)
    found = json.loads(run("plan", store.path, *TINY, "--json").stdout)
    assert set(found) == PLAN_KEYS
    assert found["tokens"] == store.split("train").num_tokens
    shown = run("plan", store.path, *TINY, "--max-minutes", 6)
    assert shown.exit_code == 0, shown.output
    for words in ("6 min 0 s", "tokens a pass", "train.micro_batch_tokens", "measured:", "extrapolated"):
        assert words in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "pretrain", "--recipe", "min"], "did you mean 'mini'?"),
        (["bench", "pretrain", "--corpus", "nowhere/"], "nowhere"),
        (["bench", "pretrain", "--rounds", "0", "--corpus", "{store}"], "--rounds 0 measures nothing"),
        (["bench", "pretrain", "--data-dir", "."], "no use for --data-dir"),
        (["bench", "finetune", "--corpus", "."], "reads no corpus"),
        (["bench", "startup", "--recipe", "mini"], "leave out --recipe"),
        (["bench", "prepare", "--corpus", "{store}"], "is prepared already"),
        (["plan", "nowhere/"], "nowhere"),
        (["plan", "some/dataset"], "run bertkit prepare on it"),
    ],
)
def test_a_mistake_gives_one_line_and_exit_code_2(arguments, message, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*(argument.format(store=store.path) for argument in arguments))
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert list(tmp_path.iterdir()) == []
