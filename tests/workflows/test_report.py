"""A report is one file that says what there is to say of a run, shows the user's text as text, and asks no network."""

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
from toy_pages import Page, page_of
from toy_runs import JUDGED, judged_labels, write_run
from toy_tasks import toy_config, write_bert, write_examples
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.errors import CheckpointError, ConfigError
from bertkit.tasks.spec import TaskSpec
from bertkit.workflows.evaluate_task import score_again
from bertkit.workflows.finetune import finetune
from bertkit.workflows.published import published_run
from bertkit.workflows.report.page import write_report
from bertkit.workflows.report.subjects import short_names
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.scoring import Judged, iterate_predictions, read_predictions, write_predictions

runner = CliRunner()
PLAIN = TaskSpec("toy", "classification", ("text",))
SECTIONS = {
    "classification": {"Classes", "Confusion", "Confidence and length", "Most confident mistakes"},
    "regression": {"Predictions and what is left", "Largest errors"},
    "multi_label": {"Labels", "Confidence and length", "Rows that are furthest off"},
    "tagging": {"Entities", "Confusion of words", "Confidence and length", "Most confident mistakes"},
    "span_qa": {"Questions", "Null threshold", "Answers in their context"},
    "multiple_choice": {"Places of the choices", "Confidence and length", "Most confident mistakes"},
}


@pytest.mark.parametrize("problem", sorted(JUDGED))
def test_every_kind_of_problem_has_its_sections_and_its_mistakes_their_texts(problem, tmp_path):
    judged = JUDGED[problem]()
    run = write_run(tmp_path / problem, problem, {"dev": judged}, logs=problem == "tagging")
    page = page_of(run)
    assert {"Summary", "Settings and machine"} | SECTIONS[problem] <= {text.strip() for text in page.words}, page.text[
        :2000
    ]
    wrong = next(each for each in judged if each.prediction != each.label and each.label != ())
    assert wrong.texts[0].split()[0] in page.text
    assert "holds no texts" not in page.text
    assert ("Training loss" in page.text) == (problem == "tagging") == (run / "plots/training.png").is_file()


def test_the_page_loads_nothing_and_its_policy_allows_one_script(tmp_path):
    html = write_report([write_run(tmp_path / "run", "classification", {"dev": judged_labels()})]).path.read_text(
        "utf-8"
    )
    page = Page(html)
    policy = next(each["content"] for each in page.all("meta") if "http-equiv" in each)
    assert policy.startswith("default-src 'none'")
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("href", "src", "xlink:href"):
                assert value.startswith("#")
    assert not re.search(r"@import|url\((?!#)", html)


def test_names_of_elements_are_unique_and_links_have_a_target(tmp_path):
    runs = [write_run(tmp_path / f"run{n}", "tagging", {"dev": JUDGED["tagging"]()}, logs=True) for n in range(2)]
    page = page_of(*runs, output=tmp_path / "two.html")
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    pointed = [a[key] for _, a in page.elements for key in ("aria-controls", "aria-labelledby") if key in a]
    pointed += [attributes["href"][1:] for attributes in page.all("a")]
    assert pointed
    assert set(pointed) <= set(names)


def test_text_labels_and_names_from_outside_are_text_and_never_markup(tmp_path):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\" ' </style> </svg> {{ 7*7 }} \x1b[31m \ud800 $x^2$"
    labels = (f"{evil} one", f"{evil} two", "</script>")
    judged = judged_labels(30, labels=labels, text=evil + " {n}")
    clean = page_of(write_run(tmp_path / "clean", "classification", {"dev": judged_labels(30)}))
    run = write_run(tmp_path / "<b onclick=x>&amp;", "classification", {evil.replace("\ud800", ""): judged})
    page = page_of(run)
    assert [tag for tag, _ in page.elements if tag in ("script", "img", "b", "style", "svg")].count("img") == 0
    assert len(page.all("script")) == len(clean.all("script"))
    assert len(page.all("style")) == len(clean.all("style"))
    assert "b" not in {tag for tag, _ in page.elements}
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }}" in page.text
    assert r"\x1b[31m" in page.text


@pytest.mark.parametrize("problem", ["tagging", "span_qa", "multiple_choice", "multi_label", "regression"])
def test_hostile_texts_stay_text_in_every_kind_of_card(problem, tmp_path):
    evil = "<img/src=x/onerror=alert(1)>"
    judged = [
        Judged(
            each.key,
            each.prediction,
            each.label,
            each.probability,
            each.details,
            texts=tuple(t if problem == "span_qa" and n else f"{evil} {t}" for n, t in enumerate(each.texts)),
        )
        for each in JUDGED[problem]()
    ]
    page = page_of(write_run(tmp_path / "run", problem, {evil: judged}))
    assert not page.all("img")
    assert evil in page.text


def test_the_report_of_a_comparison_is_not_written_over(tmp_path):
    folder = tmp_path / "comparison"
    runs = [write_run(folder / "finetune" / row, "classification", {"dev": judged_labels()}) for row in ("a", "b")]
    (folder / "ablation.yaml").write_text("table: sizes\n")
    (folder / "report.html").write_text("its own")
    for output in (None, folder):
        with pytest.raises(ConfigError, match="is the report of a comparison, by bertkit ablate"):
            write_report([folder], output=output)
    assert (folder / "report.html").read_text() == "its own"
    assert write_report([folder], output=folder / "runs.html").runs == tuple(runs)
    with pytest.raises(CheckpointError, match=f"is a comparison, .* name a run in it, such as {runs[0]}"):
        published_run(folder)


def test_predictions_of_an_earlier_version_are_reported_without_texts(tmp_path):
    run = write_run(tmp_path / "run", "classification", {"dev": judged_labels()})
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    (run / "predictions.jsonl").write_text("".join(json.dumps(r | {"texts": []}) + "\n" for r in rows))
    page = page_of(run)
    assert "predictions.jsonl holds no texts" in page.text
    assert "row 3" in page.text


def test_texts_survive_being_written_and_read_whatever_is_in_them(tmp_path):
    texts = ("line\u2028separator\x85\x0b", 'quote " \\ and \n new line', "half \ud83d of a pair", "日本")
    path = tmp_path / "predictions.jsonl"
    write_predictions(path, {"a": [Judged("1", "x", "y", 0.5, texts=texts)], "b": [Judged("2", "x", "x")]})
    found = list(iterate_predictions(path, PLAIN))
    assert [(split, each.texts) for split, each in found] == [("a", texts), ("b", ())]
    assert read_predictions(path, PLAIN)["a"][0].texts == ()
    assert b"\r" not in path.read_bytes()


def test_finetuning_writes_the_texts_it_predicted_and_is_scored_again_from_them(tmp_path):
    bert = write_bert(tmp_path / "bert")
    config = toy_config(write_examples(tmp_path, "span_qa"), bert, "span_qa", train__epochs=1)
    summary = finetune(config, tmp_path / "run")
    row = json.loads((tmp_path / "run/predictions.jsonl").read_text().splitlines()[0])
    assert row["texts"][0] == "who sat"
    assert row["best_span"] in row["texts"][1]
    assert score_again(RunFolder(tmp_path / "run"))["scores"] == summary.results["scores"]
    page = page_of(tmp_path / "run")
    assert "Answers in their context" in page.text


def test_splits_stand_side_by_side_as_tabs(tmp_path):
    judged = {"matched": judged_labels(30), "mismatched": judged_labels(24)}
    page = page_of(write_run(tmp_path / "run", "classification", judged))
    tabs = [each for each in page.all("button") if each.get("role") == "tab"]
    assert len(tabs) == 2 * len(SECTIONS["classification"])
    assert page.text.count("mismatched") > 4


def test_seeds_have_a_mean_and_a_deviation_and_the_settings_that_differ(tmp_path):
    for seed, number in ((0, 60), (1, 61)):
        write_run(tmp_path / "suite" / f"seed-{seed}", "classification", {"dev": judged_labels(number)}, seed=seed)
    page = page_of(tmp_path / "suite")
    assert (tmp_path / "suite/report.html").is_file()
    assert "suite: 2 runs" in page.text
    assert re.search(r"dev: accuracy 66\.67 % 65\.57 % 66\.12 % 0\.77 %", page.text)
    assert "Settings that differ setting seed-0 seed-1 train. seed 0 1" in page.text


def test_runs_that_differ_in_more_than_the_seed_have_no_mean(tmp_path):
    one = write_run(tmp_path / "one", "classification", {"dev": judged_labels()})
    two = write_run(tmp_path / "two", "classification", {"dev": judged_labels()})
    config = (two / "config.yaml").read_text().replace("learning_rate: null", "learning_rate: 0.5")
    (two / "config.yaml").write_text(config)
    page = page_of(one, two, output=tmp_path / "out.html")
    assert "deviation" not in page.text
    assert "0.5" in page.text


def test_names_are_as_short_as_sets_them_apart(tmp_path):
    assert short_names([tmp_path / "a/one", tmp_path / "a/two"]) == ["one", "two"]
    assert short_names([tmp_path / "a/run", tmp_path / "b/run"]) == ["a/run", "b/run"]


def test_the_same_run_named_twice_is_shown_once(tmp_path):
    run = write_run(tmp_path / "run", "regression", {"dev": JUDGED["regression"]()})
    assert write_report([run, tmp_path / "run/../run"]).runs == (run,)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: p / "nowhere", ConfigError, "does not exist"),
        (lambda p: p, ConfigError, "holds no run"),
        (lambda p: _with(p, "results.json", "{"), CheckpointError, "results.json is missing or damaged"),
        (lambda p: _with(p, "environment.json", "[]x"), CheckpointError, "environment.json is damaged"),
        (lambda p: _with(p, "config.yaml", "a: [b"), ConfigError, "config.yaml"),
        (lambda p: _with(p, "config.yaml", ""), ConfigError, "config.yaml: train: field required"),
        (lambda p: _without(p, "config.yaml"), CheckpointError, "is a run without its config.yaml: put it back"),
        (lambda p: _without(p, "environment.json"), CheckpointError, "is a run without its environment.json"),
    ],
)
def test_what_cannot_be_reported_is_told_in_one_sentence(make, error, words, tmp_path):
    with pytest.raises(error, match=re.escape(words)):
        write_report([make(tmp_path)])


def _without(folder, name):
    """A run that has begun and lost a file."""
    run = _with(folder, "pinned.json", "{}")
    (run / name).unlink()
    return run


def _with(folder, name, text):
    run = write_run(folder / "run", "regression", {"dev": JUDGED["regression"]()})
    (run / name).write_text(text)
    return run


def test_rows_of_a_log_that_are_no_rows_of_ours_are_left_out(tmp_path):
    rows = [
        '{"step": 1, "loss": "low"}',
        '{"step": 2, "loss": 1.5}',
        '{"step": 3, "loss": NaN, "tokens": 1, "elapsed_s": 1}',
    ]
    page = page_of(_with(tmp_path, "metrics.jsonl", "\n".join([*rows, "cut"])))
    assert "Largest errors" in page.text


def test_damaged_predictions_leave_the_rest_of_the_report(tmp_path):
    run = _with(tmp_path, "predictions.jsonl", '{"split": "dev"}\n')
    page = page_of(run)
    assert "The predictions cannot be read" in page.text
    assert "Settings and machine" in page.text


def test_lost_predictions_are_told_too(tmp_path):
    assert "the predictions are lost" in page_of(_with(tmp_path, "predictions.jsonl", "")).text


def test_a_folder_that_may_not_be_written_costs_the_plots_and_not_the_page(tmp_path, caplog):
    run = write_run(tmp_path / "run", "regression", {"dev": JUDGED["regression"]()}, logs=True)
    (run / "plots").write_text("in the way")
    summary = write_report([run], output=tmp_path / "out.html")
    assert summary.plots == ()
    assert "training.png cannot be written" in caplog.text
    assert "Largest errors" in Page(summary.path.read_text("utf-8")).text


def test_no_mistake_is_said_so(tmp_path):
    judged = [Judged("1", "a", "a", 0.9, {"probabilities": {"a": 0.9, "b": 0.1}}, texts=("x",))]
    page = page_of(write_run(tmp_path / "run", "classification", {"dev": judged}))
    assert "There is no mistake to show" in page.text


def test_many_labels_have_a_map_and_few_a_table(tmp_path):
    labels = tuple(f"label_{n:02d}" for n in range(77))
    page = page_of(write_run(tmp_path / "many", "classification", {"dev": judged_labels(400, labels=labels)}))
    assert [each for each in page.all("svg") if each.get("class") == "heat"]
    assert "Most confused pairs" in page.text
    page = page_of(write_run(tmp_path / "few", "classification", {"dev": judged_labels()}))
    assert [each for each in page.all("table") if each.get("class") == "matrix"]


def test_no_path_of_the_machine_is_on_the_page(tmp_path):
    run = write_run(tmp_path / "run", "classification", {"dev": judged_labels()})
    for name in ("config.yaml", "environment.json"):
        text = (run / name).read_text()
        text = text.replace("toy.csv", "/home/ann/secret/toy.csv").replace('"finetune"', '"finetune", "/home/ann/x"')
        (run / name).write_text(text)
    assert "/home/ann" not in write_report([run]).path.read_text("utf-8")


def test_the_command_prints_the_path_or_json(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "runs/newest", "regression", {"dev": JUDGED["regression"]()}, logs=True)
    result = runner.invoke(app, ["report"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{Path('runs/newest/report.html')}\n"
    result = runner.invoke(app, ["report", "runs/newest", "--output", "out/page.html", "--json"])
    said = json.loads(result.stdout)
    assert said["bytes"] == (tmp_path / "out/page.html").stat().st_size
    assert said["plots"][0].endswith("training.png")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere"],
        ["."],
        ["runs/a", "nowhere"],
        ["runs/a/config.yaml"],
        ["runs/a", "--output", "runs/a/config.yaml"],
        ["runs/a", "--output", "runs/a/config.yaml/x.html"],
    ],
)
def test_wrong_input_is_one_line_and_exit_code_two(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if arguments[0].startswith("runs"):
        write_run(tmp_path / "runs/a", "regression", {"dev": JUDGED["regression"]()})
    result = runner.invoke(app, ["report", *arguments])
    assert result.exit_code == 2
    assert result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
