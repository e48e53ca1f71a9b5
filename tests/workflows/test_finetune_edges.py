"""What a reader with fresh eyes found at the edges of fine-tuning."""

import json
import math
import shutil

import pytest
from toy_tasks import toy_config, write_bert, write_examples
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.errors import CheckpointError, ConfigError, TaskError
from bertkit.tasks.spec import Example
from bertkit.workflows.evaluate_task import evaluate_on
from bertkit.workflows.finetune import finetune
from bertkit.workflows.finetuned import open_finetuned
from bertkit.workflows.scoring import Judged, read_predictions, write_predictions
from bertkit.workflows.selection import collapse_reason
from bertkit.workflows.suite import SuiteSummary
from bertkit.workflows.task_data import load_task

QUICK = ["--set=task.max_seq_length=32", "--set=train.max_steps=2", "--set=train.precision=fp32"]


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


def judged(predictions, labels):
    return [Judged(str(n), p, label) for n, (p, label) in enumerate(zip(predictions, labels, strict=True))]


def examples(labels):
    return [Example(str(n), f"x:{n}", ("text",), label) for n, label in enumerate(labels)]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write_questions(path, *, unanswerable):
    paragraphs = [
        {
            "context": f"{'a ' * n}the cat sat on the mat",
            "qas": [
                {
                    "id": str(n),
                    "question": "who sat",
                    "answers": [] if n in unanswerable else [{"text": "cat", "answer_start": 2 * n + 4}],
                }
            ],
        }
        for n in range(12)
    ]
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return path


def test_a_loss_under_balanced_weights_is_held_against_guessing_under_the_same_weights():
    train = examples(["common"] * 90 + ["rare"] * 10)
    seen = judged(["common", "rare"], ["common", "rare"])
    weights = {"common": 100 / (2 * 90), "rare": 100 / (2 * 10)}
    learned, guessed = [0.45] * 4, [math.log(2)] * 4
    assert collapse_reason("classification", seen, train, learned, class_weights=weights) is None
    assert "guessing" in collapse_reason("classification", seen, train, guessed, class_weights=weights)
    assert "guessing" in collapse_reason("classification", seen, train, learned)


def test_one_answer_for_everything_is_a_collapse_whatever_the_problem():
    tags = judged([("NOUN", "NOUN"), ("NOUN",)], [("VERB", "NOUN"), ("NOUN",)])
    assert collapse_reason("tagging", tags, [], []) == "every word got the tag 'NOUN'"
    sets = judged([("a",), ("a",)], [("a",), ("a", "b")])
    assert "every example got the label" in collapse_reason("multi_label", sets, [], [])
    choices = [Example("0", "x:0", ("context", "one", "two", "three"), 1)]
    assert "guessing" in collapse_reason("multiple_choice", judged([0, 1], [1, 1]), choices, [math.log(3)] * 4)
    assert collapse_reason("multiple_choice", judged([0, 1], [1, 1]), choices, [0.9] * 4) is None


def test_predictions_hold_characters_that_python_takes_for_ends_of_lines(bert, tmp_path):
    spec = load_task(toy_config(write_examples(tmp_path, "classification"), bert, "classification")).spec
    names = ["a\u2028b", "c\x85d", "e"]
    write_predictions(tmp_path / "predictions.jsonl", {"data": judged(names, names)})
    assert [row.label for row in read_predictions(tmp_path / "predictions.jsonl", spec)["data"]] == names


def test_questions_without_answer_in_one_file_alone_are_scored_as_in_squad_2(bert, tmp_path):
    train = write_questions(tmp_path / "train.json", unanswerable=())
    dev = write_questions(tmp_path / "dev.json", unanswerable=(1, 2, 3))
    mixed = toy_config(train, bert, "span_qa", task__evaluate=[str(dev)], train__epochs=1)
    assert finetune(mixed, tmp_path / "mixed").results["headline"] == "dev_best_f1"
    plain = toy_config(train, bert, "span_qa", train__epochs=1)
    assert finetune(plain, tmp_path / "plain").results["headline"] == "heldout_f1"
    assert evaluate_on(str(tmp_path / "plain"), str(dev))["scores"]["data"]["NoAns_total"] == 3


def test_words_without_tags_are_told_and_not_a_traceback(bert, tmp_path):
    path = tmp_path / "words.conll"
    path.write_text("\n\n".join("the\ncat" + "\nsat" * n for n in range(9)) + "\n")
    with pytest.raises(TaskError, match="have no label"):
        finetune(toy_config(path, bert, "tagging"), tmp_path / "run")


def test_tags_in_bmes_are_trained_on_and_scored(bert, tmp_path):
    path = tmp_path / "train.conll"
    path.write_text("\n\n".join("the O\ncat B-X\non M-X\nmat E-X" + "\nsat S-X" * n for n in range(9)) + "\n")
    results = finetune(toy_config(path, bert, "tagging", train__epochs=1), tmp_path / "run").results
    assert "strict_f1" in results["scores"]["heldout"]


def test_examples_to_score_that_changed_are_refused(bert, tmp_path):
    train = write_examples(tmp_path, "classification")
    dev = write_examples(tmp_path / "dev", "classification", number=16, seed=3)
    config = toy_config(train, bert, "classification", task__evaluate=[str(dev)], train__epochs=1)
    finetune(config, tmp_path / "run")
    write_examples(tmp_path / "dev", "classification", number=16, seed=4)
    with pytest.raises(CheckpointError, match="are not those"):
        finetune(config, tmp_path / "run")


def test_a_finished_run_that_collapsed_may_be_asked_to_try_again(bert, tmp_path):
    train = write_examples(tmp_path, "classification")
    values = {"train__epochs": 1, "optim__learning_rate": 1e-9}
    first = finetune(toy_config(train, bert, "classification", **values), tmp_path / "run").results
    config = toy_config(train, bert, "classification", **values, train__retry_collapsed=1)
    # Killed while it began again, it had removed the export, and not the results yet.
    shutil.rmtree(tmp_path / "run/export")
    again = finetune(config, tmp_path / "run").results
    assert (first["attempts"], first["seed"]) == (1, 0)
    assert (again["attempts"], again["seed"]) == (2, 1000)
    assert finetune(config, tmp_path / "run").results == again


def test_tables_of_several_runs_show_shares_in_percent_and_no_counts(bert, tmp_path):
    for command, problem in (("qa", "span_qa"), ("tag", "tagging")):
        train = write_examples(tmp_path / problem, problem)
        options = ["--train", train, "--from", bert, *QUICK, "--seeds", 2, "--output-dir", tmp_path / command]
        shown = run("finetune", command, *options).stdout
        shares = [float(word) for line in shown.splitlines() if "f1" in line for word in line.split()[2:3]]
        assert shares
        assert all(0 <= share <= 100 for share in shares), shown
        assert "predicted" not in shown
        assert "total" not in shown


def test_a_grid_has_a_best_cell_and_no_mean(tmp_path):
    assert SuiteSummary(tmp_path, {"batch16-rate5e-05-epochs2": {}}, {}).is_grid
    assert not SuiteSummary(tmp_path, {"seed-0": {}, "seed-1": {}}, {}).is_grid


def test_glue_all_asks_for_every_file_before_it_runs_the_first_task(bert, tmp_path):
    (tmp_path / "glue/CoLA").mkdir(parents=True)
    for name in ("train", "dev"):
        (tmp_path / f"glue/CoLA/{name}.tsv").write_text("".join(f"s\t{n % 2}\t\tthe cat {n}\n" for n in range(40)))
    options = ["--from", bert, "--data-dir", tmp_path / "glue", "--output-dir", tmp_path / "runs", *QUICK]
    result = run("finetune", "glue", "all", *options)
    assert result.exit_code == 2
    assert "glue/sst2" in " ".join(result.stderr.split())
    assert not (tmp_path / "runs").exists()


def test_several_runs_are_no_model(tmp_path):
    (tmp_path / "seed-0").mkdir()
    for name in ("config.yaml", "environment.json"):
        (tmp_path / "seed-0" / name).write_text("{}")
    result = run("evaluate", tmp_path, "--data", "x.csv")
    assert result.exit_code == 2
    assert "name one of the folders in it" in " ".join(result.stderr.split())


def test_hans_wants_a_model_of_mnli(bert, tmp_path):
    train = write_examples(tmp_path, "classification")
    finetune(toy_config(train, bert, "classification", train__epochs=1), tmp_path / "run")
    (tmp_path / "HANS").mkdir()
    row = "entailment\tthe cat sat\tthe cat\tlexical_overlap\n"
    (tmp_path / "HANS/heuristics_evaluation_set.txt").write_text("gold_label\tsentence1\tsentence2\theuristic\n" + row)
    with pytest.raises(TaskError, match="labels are matched by name"):
        evaluate_on(str(tmp_path / "run"), "hans", data_dir=tmp_path)
    assert open_finetuned(str(tmp_path / "run")).labels == ("animal", "nothing")


def test_a_run_of_another_kind_is_named_as_such(bert, tmp_path):
    from bertkit.config.load import dump_config, find_recipe, load_config
    from bertkit.config.schema import PretrainConfig

    other = tmp_path / "pretrained"
    other.mkdir()
    (other / "config.yaml").write_text(dump_config(load_config(PretrainConfig, find_recipe("demo"))))
    (other / "environment.json").write_text("{}")
    config = toy_config(write_examples(tmp_path, "classification"), bert, "classification")
    with pytest.raises(ConfigError, match="holds a run of pre-training"):
        finetune(config, other)


def test_a_run_killed_while_it_made_its_folder_begins_again(bert, tmp_path):
    config = toy_config(write_examples(tmp_path, "classification"), bert, "classification", train__epochs=1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/environment.json").write_text("{}")
    (tmp_path / "run/.config.yaml.partial").write_text("task:")
    assert finetune(config, tmp_path / "run").results["attempts"] == 1
