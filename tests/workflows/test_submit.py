"""The leaderboard's zip: official names, one line a test row, labels as GLUE calls them, the best run of each task."""

import json
import shutil
import zipfile

import pytest
from toy_heads import write_head

from bertkit.config.finetune import FinetuneConfig, TaskConfig
from bertkit.config.load import dump_config
from bertkit.errors import ConfigError, TaskError
from bertkit.tasks.registry import list_tasks
from bertkit.tasks.spec import Example
from bertkit.workflows.finetuned import open_finetuned
from bertkit.workflows.submit import submit_glue

LABELS = {spec.name: spec.labels or ("score",) for spec in list_tasks() if spec.submission and spec.splits.train}
# What gluebenchmark.com asks for.
OFFICIAL = {
    "CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "QQP.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "QNLI.tsv", "RTE.tsv",
    "WNLI.tsv", "AX.tsv",
}  # fmt: skip
PAIRS = [("the cat sat", "a cat"), ('"on the mat', "on it"), ("who sat where", "the cat"), ("a", "b")]


def write_run(folder, task, *, value=0.5, seed=0, data_dir=None, finished=True):
    """A run as bertkit finetune leaves it, without having been trained."""
    write_head(folder / "export", labels=LABELS[task], seed=seed)
    place = None if data_dir is None else str(data_dir)
    (folder / "config.yaml").write_text(dump_config(FinetuneConfig(task=TaskConfig(name=task, data_dir=place))))
    (folder / "environment.json").write_text("{}")
    if finished:
        results = {"task": task, "headline": "validation_x", "scores": {"validation": {"x": value}}}
        (folder / "results.json").write_text(json.dumps(results))
    return folder


def write_tests(folder):
    """Test files of every task as GLUE has them, of a few rows."""
    for name, columns in (
        ("CoLA/test", ("sentence",)), ("SST-2/test", ("sentence",)), ("MRPC/test", ("#1 String", "#2 String")),
        ("STS-B/test", ("sentence1", "sentence2")), ("QQP/test", ("question1", "question2")),
        ("MNLI/test_matched", ("sentence1", "sentence2")), ("MNLI/test_mismatched", ("sentence1", "sentence2")),
        ("QNLI/test", ("question", "sentence")), ("RTE/test", ("sentence1", "sentence2")),
        ("WNLI/test", ("sentence1", "sentence2")), ("AX/diagnostic", ("sentence1", "sentence2")),
    ):  # fmt: skip
        path = folder / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = ["\t".join([str(n), *pair[: len(columns)]]) for n, pair in enumerate(PAIRS)]
        path.write_text("\n".join(["\t".join(["index", *columns]), *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tests(tmp_path_factory.mktemp("glue_data"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for task in LABELS:
        write_run(folder / task.split("/")[1] / "seed-0", task)
    return folder


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_a_whole_submission_has_the_official_files_with_a_line_a_row(runs, data, tmp_path):
    submission = submit_glue(runs, data_dir=data, output=tmp_path / "glue.zip")
    files = contents(submission.path)
    assert set(files) == set(submission.files) == OFFICIAL
    assert not submission.missing
    for text in files.values():
        header, *lines = text.splitlines()
        assert header == "index\tprediction"
        assert [line.split("\t")[0] for line in lines] == ["0", "1", "2", "3"]
    assert submission.files["AX.tsv"].path == runs / "mnli" / "seed-0"


def test_labels_are_called_as_glue_calls_them(runs, data, tmp_path):
    files = contents(submit_glue(runs, data_dir=data, output=tmp_path / "glue.zip").path)
    said = {name: {line.split("\t")[1] for line in text.splitlines()[1:]} for name, text in files.items()}
    for name in ("CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "QQP.tsv", "WNLI.tsv"):
        assert said[name] <= {"0", "1"}
    for name in ("QNLI.tsv", "RTE.tsv"):
        assert said[name] <= {"entailment", "not_entailment"}
    for name in ("MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"):
        assert said[name] <= {"entailment", "neutral", "contradiction"}
    for value in said["STS-B.tsv"]:
        assert 0 <= float(value) <= 5
        assert len(value.partition(".")[2]) == 3


def test_what_is_submitted_is_what_the_model_predicts(runs, data, tmp_path):
    text = contents(submit_glue(runs, data_dir=data, output=tmp_path / "glue.zip").path)["RTE.tsv"]
    model = open_finetuned(str(runs / "rte" / "seed-0"), precision="fp32")
    expected = model.predictor.predict([Example(str(n), "", pair) for n, pair in enumerate(PAIRS)])
    assert [line.split("\t")[1] for line in text.splitlines()[1:]] == [each.value for each in expected]


def test_numbers_are_clipped_to_the_range_of_the_task(data, tmp_path):
    submission = submit_glue(write_run(tmp_path / "a", "glue/stsb", seed=1), data_dir=data, output=tmp_path / "a.zip")
    model = open_finetuned(str(tmp_path / "a"), precision="fp32")
    raw = [each.value for each in model.predictor.predict([Example("", "", pair) for pair in PAIRS])]
    assert any(not 0 <= value <= 5 for value in raw)
    values = [float(line.split("\t")[1]) for line in contents(submission.path)["STS-B.tsv"].splitlines()[1:]]
    assert values == pytest.approx([min(max(value, 0), 5) for value in raw], abs=5e-4)


def test_the_same_predictions_make_the_same_bytes(runs, data, tmp_path):
    paths = [submit_glue(runs, data_dir=data, output=tmp_path / f"{n}.zip").path for n in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_best_run_on_dev_is_taken_and_named(data, tmp_path, caplog):
    for seed, value in enumerate((0.4, 0.9, 0.6)):
        write_run(tmp_path / "runs" / "rte" / f"seed-{seed}", "glue/rte", value=value, seed=seed)
    with caplog.at_level("INFO", logger="bertkit"):
        submission = submit_glue(tmp_path / "runs", data_dir=data, output=tmp_path / "glue.zip")
    best = tmp_path / "runs" / "rte" / "seed-1"
    assert submission.files["RTE.tsv"].path == best
    assert f"glue/rte: {best} is the best of 3 runs (validation_x 0.9000)" in caplog.messages


def test_what_is_missing_is_named_with_its_reason(data, tmp_path, caplog):
    some = tmp_path / "data"
    shutil.copytree(data, some)
    (some / "MNLI" / "test_mismatched.tsv").unlink()
    write_run(tmp_path / "runs" / "mnli", "glue/mnli", data_dir=some)
    write_run(tmp_path / "runs" / "rte", "glue/rte", finished=False)
    with caplog.at_level("WARNING", logger="bertkit"):
        submission = submit_glue(tmp_path / "runs", output=tmp_path / "glue.zip")
    assert set(submission.files) == {"MNLI-m.tsv", "AX.tsv"}
    assert set(submission.missing) == OFFICIAL - {"MNLI-m.tsv", "AX.tsv"}
    assert "no file for test_mismatched" in submission.missing["MNLI-mm.tsv"]
    assert submission.missing["RTE.tsv"] == "no run of glue/rte"
    assert any("rte is not finished and left out" in message for message in caplog.messages)


def test_a_mistake_is_one_sentence_and_leaves_nothing(runs, data, tmp_path):
    (tmp_path / "there.zip").write_text("mine")
    for arguments, error, message in (
        ({"runs_dir": tmp_path / "nowhere"}, ConfigError, "is no folder"),
        ({"runs_dir": tmp_path}, ConfigError, "has no finished run of a GLUE task"),
        ({"runs_dir": runs, "output": tmp_path / "there.zip"}, ConfigError, "exists already"),
        ({"runs_dir": runs, "output": tmp_path / "no" / "x.zip"}, ConfigError, "there is no folder"),
        ({"runs_dir": runs, "data_dir": tmp_path / "nowhere"}, TaskError, "is no folder"),
        ({"runs_dir": runs, "data_dir": tmp_path}, ConfigError, "no test split can be read"),
    ):
        with pytest.raises(error, match=message):
            submit_glue(**{"data_dir": data, "output": tmp_path / "x.zip", **arguments})
    assert [path.name for path in tmp_path.iterdir()] == ["there.zip"]
    assert (tmp_path / "there.zip").read_text() == "mine"
