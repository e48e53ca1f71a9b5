"""Fine-tuning, end to end: labelled file in, stock BERT with a head out; stopped anywhere, it ends the same."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file
from toy_tasks import toy_config, write_bert, write_examples
from transformers import AutoConfig, AutoModelForSequenceClassification, pipeline

from bertkit.errors import CheckpointError, ConfigError, TaskError
from bertkit.tasks.problem import Prediction
from bertkit.tasks.problems import PROBLEMS
from bertkit.tasks.registry import find_task
from bertkit.train.tracking import read_metrics
from bertkit.workflows.evaluate_task import evaluate_on, score_again
from bertkit.workflows.finetune import finetune
from bertkit.workflows.finetuned import open_finetuned
from bertkit.workflows.heads import head_fields, layer_scale, load_with_head
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.scoring import headline, judge, read_predictions, score_split
from bertkit.workflows.selection import Selection
from bertkit.workflows.task_data import _split_name, load_task
from bertkit.workflows.watch import Unwatched

LEARNABLE = {"epochs": 12}


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def finished(bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    config = toy_config(write_examples(folder, "classification"), bert, "classification", train__epochs=8)
    return config, folder / "run", finetune(config, folder / "run")


class StopAt(Unwatched):
    """Sends this process a signal after a step."""

    def __init__(self, step):
        self.step = step

    def training(self, status):
        if status.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("problem", sorted(PROBLEMS))
def test_every_kind_of_problem_is_learned_exported_and_scored(problem, bert, tmp_path):
    config = toy_config(write_examples(tmp_path, problem, number=96), bert, problem, train__epochs=14)
    summary = finetune(config, tmp_path / "run")
    spec = load_task(config).spec
    scores = summary.results["scores"]["heldout"]
    least = {"span_qa": 90.0, "regression": 0.9}.get(problem, 0.85)
    assert scores[headline(spec)] >= least, scores
    assert summary.results["collapsed"] is None
    assert AutoConfig.from_pretrained(tmp_path / "run/export").model_type == "bert"
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.parametrize("problem", sorted(PROBLEMS))
def test_gold_labels_fed_back_as_predictions_score_perfectly(problem, bert, tmp_path):
    data = load_task(toy_config(write_examples(tmp_path, problem), bert, problem))
    rows = data.train

    def as_prediction(label):
        return (label[0].text if label else "") if problem == "span_qa" else label

    predictions = []
    for row in rows:
        best = as_prediction(row.label)
        details = (
            {"best_span": best or "x", "null_score_difference": 0.0 if best else 1.0} if problem == "span_qa" else {}
        )
        predictions.append(Prediction(row.key, best, details=details))
    scores = score_split(data.spec, judge(rows, predictions), null_threshold=0.5)
    assert scores[headline(data.spec)] == pytest.approx(100.0 if problem == "span_qa" else 1.0)


def test_a_run_leaves_what_it_promises(finished):
    _, run_dir, summary = finished
    assert {p.name for p in run_dir.iterdir()} >= {
        "config.yaml", "environment.json", "metrics.jsonl", "predictions.jsonl", "results.json", "export", "tokenizer",
    }  # fmt: skip
    results = json.loads((run_dir / "results.json").read_text())
    assert results == summary.results
    assert results["tokens_per_s"] > 0
    line = json.loads((run_dir / "predictions.jsonl").read_text().splitlines()[0])
    assert {"split", "key", "prediction", "label", "probability", "probabilities", "texts"} == set(line)


def test_the_predictions_on_disk_score_as_the_run_did(finished):
    _, run_dir, summary = finished
    assert score_again(RunFolder(run_dir))["scores"] == summary.results["scores"]


def test_a_damaged_predictions_file_names_its_line(finished, tmp_path):
    config, run_dir, _ = finished
    path = tmp_path / "predictions.jsonl"
    path.write_text((run_dir / "predictions.jsonl").read_text().splitlines()[0] + "\n{broken\n")
    with pytest.raises(CheckpointError, match="line 2"):
        read_predictions(path, load_task(config).spec)


def test_predictions_cut_short_at_the_end_of_a_line_are_not_scored_as_if_they_were_all(finished, tmp_path):
    _, run_dir, _ = finished
    shutil.copytree(run_dir, tmp_path / "run", ignore=shutil.ignore_patterns("export"))
    path = tmp_path / "run/predictions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(CheckpointError, match="cut short"):
        score_again(RunFolder(tmp_path / "run"))


def test_plain_transformers_gives_the_predictions_of_the_run(finished):
    config, run_dir, _ = finished
    classify = pipeline("text-classification", model=str(run_dir / "export"), device="cpu")
    rows = load_task(config).evaluate["heldout"]
    written = [json.loads(line) for line in (run_dir / "predictions.jsonl").read_text().splitlines()]
    for row, line in zip(rows, written, strict=True):
        (answer,) = classify([row.texts[0]])
        assert answer["label"] == line["prediction"]
        assert answer["score"] == pytest.approx(line["probability"], abs=1e-4)


def test_labels_are_matched_by_name_so_a_model_of_permuted_ids_scores_the_same(finished, tmp_path):
    config, run_dir, _ = finished
    permuted = tmp_path / "permuted"
    shutil.copytree(run_dir / "export", permuted)
    model = AutoModelForSequenceClassification.from_pretrained(permuted)
    with torch.no_grad():
        model.classifier.weight.copy_(model.classifier.weight.flip(0))
        model.classifier.bias.copy_(model.classifier.bias.flip(0))
    names = [model.config.id2label[1], model.config.id2label[0]]
    model.config.id2label, model.config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
    model.save_pretrained(permuted)
    scores = [evaluate_on(str(folder), config.task.train)["scores"] for folder in (run_dir / "export", permuted)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("stop_at", [1, 5, 9])
def test_stopped_by_a_signal_and_run_again_it_ends_with_the_same_bits(finished, tmp_path, stop_at):
    config, run_dir, summary = finished
    stopped = finetune(config, tmp_path / "run", watch=StopAt(stop_at))
    assert (stopped.stopped_by, stopped.step) == ("SIGTERM", stop_at)
    again = finetune(config, tmp_path / "run")
    assert again.results["scores"] == summary.results["scores"]
    first, second = (load_file(folder / "export/model.safetensors") for folder in (run_dir, tmp_path / "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_killed_without_warning_it_ends_with_the_same_bits(finished, tmp_path):
    config, run_dir, _ = finished
    script = textwrap.dedent("""
        import os, pathlib, signal, sys
        from bertkit.config.finetune import FinetuneConfig
        from bertkit.workflows.finetune import finetune
        from bertkit.workflows.watch import Unwatched

        class Kill(Unwatched):
            def training(self, status):
                if status.step == 7:
                    os.kill(os.getpid(), signal.SIGKILL)

        config = FinetuneConfig.model_validate_json(sys.stdin.read())
        finetune(config, pathlib.Path(sys.argv[1]), watch=Kill())
    """)
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    killed = subprocess.run(command, input=config.model_dump_json(), text=True, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    finetune(config, tmp_path / "run")
    first, second = (load_file(folder / "export/model.safetensors") for folder in (run_dir, tmp_path / "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_has_begun_needs_the_model_it_began_from_no_more(finished, bert, tmp_path):
    config, run_dir, _ = finished
    shutil.copytree(bert, tmp_path / "bert")
    moved = config.model_copy(update={"model": config.model.model_copy(update={"init_from": str(tmp_path / "bert")})})
    finetune(moved, tmp_path / "run", watch=StopAt(8))
    shutil.rmtree(tmp_path / "bert")
    finetune(moved, tmp_path / "run")
    first, second = (load_file(folder / "export/model.safetensors") for folder in (run_dir, tmp_path / "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_finished_run_run_again_shows_its_results_and_trains_no_further(finished):
    config, run_dir, summary = finished
    before = (run_dir / "export/model.safetensors").stat().st_mtime_ns
    assert finetune(config, run_dir).results == summary.results
    assert (run_dir / "export/model.safetensors").stat().st_mtime_ns == before


def test_a_finished_run_is_never_overwritten_by_another(finished):
    config, run_dir, _ = finished
    other = config.model_copy(update={"train": config.train.model_copy(update={"seed": 5})})
    with pytest.raises(ConfigError, match=r"differs in train\.seed"):
        finetune(other, run_dir)


def test_a_finished_run_whose_export_is_gone_is_not_trained_again_unasked(bert, tmp_path):
    config = toy_config(write_examples(tmp_path, "classification"), bert, "classification", train__epochs=1)
    finetune(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/export")
    with pytest.raises(
        CheckpointError, match=r"is finished, but .*export is gone: put it back, or remove .*results\.json"
    ):
        finetune(config, tmp_path / "run")


def test_examples_that_changed_under_a_run_are_refused(bert, tmp_path):
    train = write_examples(tmp_path, "classification")
    config = toy_config(train, bert, "classification")
    finetune(config, tmp_path / "run", watch=StopAt(6))
    write_examples(tmp_path, "classification", seed=1)
    with pytest.raises(CheckpointError, match="are not those"):
        finetune(config, tmp_path / "run")


def test_the_best_evaluation_is_kept_not_the_last(finished):
    _, run_dir, summary = finished
    rows = [row for row in read_metrics(run_dir / "metrics.jsonl") if "heldout_accuracy" in row]
    best = max(rows, key=lambda row: (row["heldout_accuracy"], -row["step"]))
    assert summary.results["best_step"] == best["step"]
    assert summary.results["scores"]["heldout"]["accuracy"] == best["heldout_accuracy"]
    assert len(rows) == 8


def test_training_stops_early_where_nothing_gets_better(bert, tmp_path):
    train = write_examples(tmp_path, "classification")
    config = toy_config(
        train, bert, "classification", train__epochs=20, train__early_stopping_patience=2, optim__learning_rate=1e-9
    )
    summary = finetune(config, tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run/metrics.jsonl") if "heldout_accuracy" in row]
    assert len(rows) == 3
    assert summary.results["best_step"] == rows[0]["step"]


def test_a_collapsed_run_is_named_and_tried_again_with_another_seed(bert, tmp_path):
    train = write_examples(tmp_path, "classification")
    config = toy_config(
        train, bert, "classification", train__epochs=1, optim__learning_rate=1e-9, train__retry_collapsed=2
    )
    results = finetune(config, tmp_path / "run").results
    assert "label" in results["collapsed"]
    assert (results["attempts"], results["seed"]) == (3, 2000)


def test_one_value_makes_a_new_task_for_every_command(bert, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from bertkit.cli import app
    from bertkit.tasks import registry
    from bertkit.tasks.spec import GlueFiles, TaskSpec

    monkeypatch.setattr(registry, "_TASKS", dict(registry._TASKS))
    registry.register_task(
        TaskSpec(
            name="glue/cats", problem="classification", texts=("sentence",), labels=("none", "cat"),
            files=GlueFiles("Cats", texts=("sentence",), label="label"), metrics=("matthews", "accuracy"),
        )
    )  # fmt: skip
    (tmp_path / "Cats").mkdir()
    lines = ["sentence\tlabel", *(f"the {'cat' if n % 2 else 'mat'} sat {'on ' * (n % 5)}\t{n % 2}" for n in range(40))]
    for split in ("train", "dev"):
        (tmp_path / f"Cats/{split}.tsv").write_text("\n".join(lines) + "\n")
    arguments = ["--from", str(bert), "--data-dir", str(tmp_path)]
    options = ["--set=task.max_seq_length=32", "--output-dir", str(tmp_path / "run")]
    done = CliRunner().invoke(app, ["finetune", "glue", "cats", *arguments, *options])
    assert done.exit_code == 0, done.output
    assert "validation: matthews" in done.stdout
    assert CliRunner().invoke(app, ["check", "glue", "cats", *arguments]).exit_code == 0
    assert CliRunner().invoke(app, ["evaluate", str(tmp_path / "run")]).exit_code == 0
    # The labels of its own files are numbers, and are scored by the task's names.
    other = ["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "Cats/dev.tsv"), "--json"]
    scores = json.loads(CliRunner().invoke(app, other).stdout)["scores"]["data"]
    kept = json.loads((tmp_path / "run/results.json").read_text())["scores"]["validation"]
    assert scores["matthews"] == pytest.approx(kept["matthews"])


def test_micro_batches_change_the_weights_by_rounding_only(bert, tmp_path):
    train = write_examples(tmp_path, "multiple_choice")
    weights = []
    for micro in (3, 8):
        config = toy_config(
            train, bert, "multiple_choice", train__micro_batch_size=micro, train__max_steps=4, train__epochs=None,
            model__hidden_dropout_prob=0.0,
        )  # fmt: skip
        finetune(config, tmp_path / f"run{micro}")
        weights.append(load_file(tmp_path / f"run{micro}/export/model.safetensors"))
    # Four steps at 3e-3: what has no gradient but rounding, the bias of the keys, moves a little all the same.
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-4) for name in weights[0])


def test_frozen_weights_stay_and_the_head_learns(bert, tmp_path):
    train = write_examples(tmp_path, "classification")
    finetune(toy_config(train, bert, "classification", model__freeze="encoder"), tmp_path / "run")
    before, after = load_file(bert / "model.safetensors"), load_file(tmp_path / "run/export/model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    assert torch.equal(before[name], after[f"bert.{name}"])
    assert not torch.equal(before["pooler.dense.weight"], after["bert.pooler.dense.weight"])


def test_the_top_layers_begin_anew_and_the_lower_ones_do_not(bert):
    config = toy_config(bert, bert, "classification", model__reinit_layers=1).model
    problem = PROBLEMS["classification"]
    anew = load_with_head(config, problem, ["a", "b"], seed=1)
    kept = load_with_head(config.model_copy(update={"reinit_layers": 0}), problem, ["a", "b"], seed=1)
    names = dict(kept.named_parameters())
    for name, parameter in anew.named_parameters():
        is_anew = name.startswith(("bert.layers.1.", "bert.pooler.")) and name.endswith("weight") and parameter.ndim > 1
        if is_anew:
            assert not torch.equal(parameter, names[name]), name
        elif name.startswith(("bert.layers.0.", "bert.embeddings.")):
            assert torch.equal(parameter, names[name]), name
    with pytest.raises(ConfigError, match="exceeds the model's 2 layers"):
        load_with_head(config.model_copy(update={"reinit_layers": 3}), problem, ["a", "b"], seed=1)


def test_lower_layers_learn_more_slowly_by_the_decay():
    scale = layer_scale(2, 0.5)
    assert scale("classifier.weight") == scale("bert.pooler.dense.weight") == 1.0
    assert scale("bert.layers.1.output.weight") == 0.5
    assert scale("bert.layers.0.output.weight") == 0.25
    assert scale("bert.embeddings.word_embeddings.weight") == 0.125


@pytest.mark.filterwarnings("ignore")
def test_adapters_train_little_and_leave_a_plain_bert(bert, tmp_path):
    pytest.importorskip("peft")
    train = write_examples(tmp_path, "classification")
    config = toy_config(
        train, bert, "classification", model__lora={"rank": 2}, optim__learning_rate=2e-2, train__epochs=8
    )
    summary = finetune(config, tmp_path / "run")
    before, after = load_file(bert / "model.safetensors"), load_file(tmp_path / "run/export/model.safetensors")
    assert not any("lora" in name for name in after)
    assert torch.equal(before["embeddings.word_embeddings.weight"], after["bert.embeddings.word_embeddings.weight"])
    name = "encoder.layer.0.intermediate.dense.weight"
    assert not torch.equal(before[name], after[f"bert.{name}"])
    assert summary.results["scores"]["heldout"]["accuracy"] > 0.6
    stopped = finetune(config, tmp_path / "again", watch=StopAt(9))
    assert stopped.stopped_by
    assert finetune(config, tmp_path / "again").results["scores"] == summary.results["scores"]


def test_class_weights_count_rare_classes_as_much_as_common_ones(bert, tmp_path):
    path = tmp_path / "train.csv"
    rows = [f"the mat {'sat ' * (n % 7)},common" for n in range(36)] + [f"the cat {'on ' * n},rare" for n in range(4)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    config = toy_config(path, bert, "classification", task__class_weights="balanced", train__epochs=1)
    results = finetune(config, tmp_path / "run").results
    assert results["scores"]["heldout"]["num_examples"] > 0
    with pytest.raises(TaskError, match="for classification"):
        finetune(
            toy_config(write_examples(tmp_path, "regression"), bert, "regression", task__class_weights="balanced"),
            tmp_path / "other",
        )
    assert not (tmp_path / "other").exists()


def test_thresholds_found_on_the_scored_split_travel_with_the_model(bert, tmp_path):
    train = write_examples(tmp_path, "multi_label")
    config = toy_config(train, bert, "multi_label", task__thresholds="tuned", train__epochs=1)
    results = finetune(config, tmp_path / "run").results
    model = open_finetuned(str(tmp_path / "run"))
    assert list(model.predictor.options.thresholds) == results["options"]["thresholds"]
    again = evaluate_on(str(tmp_path / "run"), str(train))
    assert again["scores"]["data"]["num_examples"] == 48


def test_the_null_threshold_found_on_dev_is_the_one_that_prediction_uses(bert, tmp_path):
    train = write_examples(tmp_path, "span_qa", number=96)
    config = toy_config(train, bert, "span_qa", train__epochs=10)
    results = finetune(config, tmp_path / "run").results
    scores = results["scores"]["heldout"]
    assert scores["f1"] == pytest.approx(scores["best_f1"])
    model = open_finetuned(str(tmp_path / "run"))
    assert model.predictor.options.null_threshold == results["options"]["null_threshold"]
    rows = load_task(config).evaluate["heldout"]
    given = [prediction.value for prediction in model.predictor.predict(rows)]
    assert "" in given
    assert "cat" in given


def test_windows_read_the_end_of_a_long_text(bert, tmp_path):
    path = tmp_path / "train.csv"
    rows = [f"{n} {'the mat sat on ' * 9}{'cat cat' if n % 2 else 'b'},{'yes' if n % 2 else 'no'}" for n in range(60)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    scores = {}
    for how in ("truncate", "windows"):
        config = toy_config(path, bert, "classification", task__long_inputs=how, train__epochs=14, task__doc_stride=24)
        results = finetune(config, tmp_path / how).results
        scores[how] = results["scores"]["heldout"]["accuracy"]
        assert results["share_cut"] == (1.0 if how == "truncate" else 0.0)
    assert scores["windows"] > scores["truncate"]


def test_another_figure_may_choose_the_best_checkpoint(bert, tmp_path):
    train = write_examples(tmp_path, "classification")
    results = finetune(toy_config(train, bert, "classification", task__metric="macro_f1"), tmp_path / "run").results
    assert results["headline"] == "heldout_macro_f1"
    with pytest.raises(ConfigError, match="give one of accuracy, macro_f1"):
        finetune(toy_config(train, bert, "classification", task__metric="f2"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_splits_are_named_after_their_files_as_shortly_as_can_be():
    paths = ("a/dev.csv", "a/emerging.dev.conll", "a/emerging.test.conll", "b/x.csv", "c/x.csv")
    names = [_split_name(path, paths) for path in paths]
    assert names == ["dev", "emerging.dev.conll", "emerging.test.conll", "b/x.csv", "c/x.csv"]


def test_selection_keeps_the_earlier_of_equals_and_never_a_nan():
    selection = Selection("figure", patience=2)
    for step, value in enumerate([0.5, float("nan"), 0.5]):
        assert not selection.is_over
        selection.add(step, value)
    assert (selection.best_step, selection.is_over) == (0, True)


def test_a_head_of_another_task_is_replaced(finished, bert, tmp_path):
    _, run_dir, _ = finished
    train = write_examples(tmp_path, "tagging")
    results = finetune(toy_config(train, run_dir, "tagging"), tmp_path / "run").results
    assert results["task"] == "train"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model__init_from": "nowhere/bert"}, ConfigError, "there is no folder nowhere/bert, and "),
        ({"task__max_seq_length": 128}, ConfigError, "exceeds the 64 positions"),
        ({"task__train": "nowhere.csv"}, TaskError, "nowhere.csv"),
        ({"task__label": "stars"}, TaskError, "stars"),
        ({"task__texts": ["body"]}, TaskError, "body"),
        ({"train__precision": "fp16"}, ConfigError, "needs a GPU"),
    ],
)
def test_a_mistake_is_found_before_anything_is_written(changes, error, message, bert, tmp_path):
    train = write_examples(tmp_path, "classification")
    with pytest.raises(error, match=message):
        finetune(toy_config(train, bert, "classification", **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_labels_without_any_in_common_are_refused(finished, tmp_path):
    _, run_dir, _ = finished
    other = tmp_path / "other.csv"
    other.write_text("text,label\nthe cat,0\nthe mat,1\n")
    with pytest.raises(TaskError, match="labels are matched by name"):
        evaluate_on(str(run_dir), str(other))
    with pytest.raises(TaskError, match="is a task of span_qa"):
        evaluate_on(str(run_dir), "squad")


def test_what_transformers_is_told_of_a_head():
    assert head_fields("regression", ())["id2label"] == {0: "score"}
    assert head_fields("classification", ["x", "y"])["label2id"] == {"x": 0, "y": 1}
    assert find_task("glue/mnli").labels[0] == "entailment"
