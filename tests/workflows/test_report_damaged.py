"""A report of damaged, edited or further files: what can be read is shown, what cannot be is said, nobody is blamed."""

import json

import pytest
from toy_pages import page_of
from toy_runs import JUDGED, judged_labels, write_run

from bertkit.errors import CheckpointError
from bertkit.tasks.spec import TaskSpec
from bertkit.train.tracking import read_log
from bertkit.workflows.report.blocks import Number, Table
from bertkit.workflows.report.history import read_history
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.scoring import iterate_predictions, write_predictions


def edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_prediction(run, **changes):
    """Changes the third line."""
    path = run / "predictions.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[2] |= changes
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_the_command_is_quoted_and_no_part_of_a_path_with_blanks_is_shown(tmp_path):
    run = write_run(tmp_path / "run", "regression", {"dev": JUDGED["regression"]()})
    command = ["bertkit", "finetune", "--train", "/home/al ice/secret project/my x.csv"]
    edit_json(run / "environment.json", command=command)
    text = page_of(run).text
    assert "bertkit finetune --train 'my x.csv'" in text
    assert "secret" not in text
    assert "al ice" not in text


@pytest.mark.parametrize(
    "changes", [{"command": None}, {"command": "bertkit"}, {"devices": None, "packages": ["torch"], "platform": None}]
)
def test_what_is_missing_of_the_machine_costs_nothing_else(changes, tmp_path):
    run = write_run(tmp_path / "run", "regression", {"dev": JUDGED["regression"]()})
    edit_json(run / "environment.json", **changes)
    assert "Where it ran" in page_of(run).text


@pytest.mark.parametrize(
    ("problem", "changes"),
    [
        ("regression", {"prediction": float("nan")}),
        ("regression", {"label": "warm"}),
        ("classification", {"probability": "x"}),
        ("classification", {"probability": 1.5}),
        ("classification", {"prediction": None}),
        ("classification", {"probabilities": {"ham": "much"}}),
        ("multi_label", {"probabilities": [0.5]}),
        ("tagging", {"prediction": ["O", "O", "O", "O"]}),
        ("tagging", {"probabilities": [0.5]}),
        ("span_qa", {"null_score_difference": "low"}),
        ("span_qa", {"label": [{"text": "1173"}]}),
        ("multiple_choice", {"prediction": -1}),
        ("multiple_choice", {"texts": [1, 2]}),
    ],
)
def test_a_line_nobody_can_score_is_named_and_the_rest_of_the_page_stands(problem, changes, tmp_path):
    run = write_run(tmp_path / "run", problem, {"dev": JUDGED[problem]()})
    edit_prediction(run, **changes)
    page = page_of(run)
    assert "predictions.jsonl is damaged at line 3: run bertkit finetune again" in page.text
    assert "Settings and machine" in page.text


def test_lines_are_counted_from_one_in_a_file_that_is_no_text(tmp_path):
    run = write_run(tmp_path / "run", "classification", {"dev": judged_labels(9)})
    path = run / "predictions.jsonl"
    path.write_bytes(path.read_bytes() + b"\xff\xfe\x00\n")
    spec = TaskSpec("toy", "classification", ("text",))
    with pytest.raises(CheckpointError, match="damaged at line 10:"):
        list(iterate_predictions(path, spec))
    path.write_bytes(b"\x80\x81")
    with pytest.raises(CheckpointError, match="damaged at line 1:"):
        list(iterate_predictions(path, spec))


@pytest.mark.parametrize(
    ("place", "said"), [(3, "1 damaged line is left out of the curves"), (None, None), ("two", "2 damaged lines are")]
)
def test_a_log_damaged_in_its_middle_is_told_and_one_cut_at_its_end_is_not(place, said, tmp_path):
    run = write_run(tmp_path / "run", "regression", {"dev": JUDGED["regression"]()}, logs=True)
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    for number in {3: [3], None: [len(lines) - 1], "two": [3, 5]}[place]:
        lines[number] = lines[number][:9]
    path.write_text("\n".join(lines))
    log = read_log(path)
    assert len(log.rows) == len(lines) - (2 if place == "two" else 1)
    text = page_of(run).text
    assert "left out of the curves" in text if said else "left out" not in text
    assert said is None or said in text


@pytest.mark.parametrize("text", ["garbage", '{"step": 3, "lo', None])
def test_a_log_of_a_finished_run_without_one_row_is_told(text, tmp_path):
    run = write_run(tmp_path / "run", "regression", {"dev": JUDGED["regression"]()}, logs=True)
    (run / "metrics.jsonl").unlink()
    if text is not None:
        (run / "metrics.jsonl").write_text(text, encoding="utf-8")
    assert "metrics.jsonl is missing or damaged: there are no curves of the run." in page_of(run).text


@pytest.mark.parametrize(("text", "is_lost"), [("garbage", True), ('{"step": 3, "lo', False), ("", False)])
def test_what_a_kill_leaves_of_the_first_line_is_no_damage(text, is_lost, tmp_path):
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    assert read_history(RunFolder(tmp_path), {}).is_lost == is_lost


def test_collapsed_runs_are_named_beside_the_scores_of_all(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / f"suite/seed-{seed}", "classification", {"dev": judged_labels()}, seed=seed)
    assert "Collapsed" not in page_of(tmp_path / "suite").text
    edit_json(tmp_path / "suite/seed-1/results.json", collapsed="it always says spam")
    assert "Collapsed: seed-1 (it always says spam)." in page_of(tmp_path / "suite").text


def test_other_data_a_run_was_scored_on_stands_beside_its_own_splits(tmp_path):
    run = write_run(tmp_path / "run", "classification", {"dev": judged_labels()})
    other = judged_labels(30, text="{n} from elsewhere {label}")
    write_predictions(run / "evaluations/fresh.predictions.jsonl", {"data": other})
    scores = {"scores": {"data": {"accuracy": 0.25, "num_examples": 30}}}
    (run / "evaluations/fresh.results.json").write_text(json.dumps(scores))
    page = page_of(run)
    assert "from elsewhere" in page.text
    assert "25.00 %" in page.text
    names = [each["aria-label"] for each in page.all("div") if each.get("role") == "tablist"]
    assert "Confusion" in names
    (run / "evaluations/fresh.predictions.jsonl").write_text("{}\n")
    (run / "evaluations/fresh.results.json").write_text("[]")
    page = page_of(run)
    assert "Predictions on other data cannot be read" in page.text
    assert "Most confident mistakes" in page.text
    assert RunFolder(run).read_results()["scores"]["dev"]["num_examples"] == 60


def test_a_column_is_one_of_numbers_if_nothing_but_gaps_is_among_them():
    table = Table("t", ("", "a", "b", "c"), [("x", Number("1", 1), "yes", None), ("y", None, 2, None)])
    assert [table.is_of_numbers(column) for column in range(4)] == [False, True, False, False]
