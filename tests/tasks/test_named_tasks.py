"""Named tasks: every one is read alike from its original layout and from the Hub, and a new one is one value."""

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import datasets
import pytest
from named_fixtures import FIXTURES, read, tsv, write

from bertkit.errors import TaskError
from bertkit.tasks import registry
from bertkit.tasks.layouts import has_split, read_split
from bertkit.tasks.registry import find_task, list_tasks, register_task
from bertkit.tasks.spec import GlueFiles, HubSource, Splits, TaskSpec

NAMES = [spec.name for spec in list_tasks()]
ALL_SPLITS = [
    (spec.name, split)
    for spec in list_tasks()
    for split in (spec.splits.train, *spec.splits.evaluate, *spec.splits.predict)
    if split is not None
]


def on_the_hub(monkeypatch, columns, *, names=(), label="label", loaded=None):
    """Put columns where `datasets.load_dataset` finds them; remember in `loaded` what was asked for."""
    dataset = datasets.Dataset.from_dict(columns)
    if names:
        is_list = isinstance(columns[label][0], list)
        feature = datasets.ClassLabel(names=list(names))
        dataset = dataset.cast_column(label, datasets.List(feature) if is_list else feature)

    def load(*arguments, **options):
        if loaded is not None:
            loaded.append((arguments, options))
        return dataset

    monkeypatch.setattr(datasets, "load_dataset", load)


# Every task


@pytest.mark.parametrize("name", NAMES)
def test_every_task_reads_its_original_layout(name, tmp_path):
    fixture = FIXTURES[name]
    write(tmp_path, fixture.path, fixture.content)
    assert has_split(find_task(name), fixture.split, tmp_path)
    examples = read(name, fixture.split, tmp_path)
    assert [example.texts for example in examples] == fixture.texts
    assert [example.label for example in examples] == fixture.labels
    assert len({example.key for example in examples}) == len(examples)
    assert all(Path(fixture.path).name in example.place for example in examples)


@pytest.mark.parametrize("name", NAMES)
def test_every_task_reads_the_same_from_the_hub(name, tmp_path, monkeypatch):
    fixture, spec, loaded = FIXTURES[name], find_task(name), []
    on_the_hub(monkeypatch, fixture.hub, names=fixture.class_names, label=spec.label, loaded=loaded)
    write(tmp_path, fixture.path, fixture.content)
    from_hub = read_split(spec, fixture.split)
    from_files = read_split(spec, fixture.split, data_dir=tmp_path)
    assert [example.texts for example in from_hub] == [example.texts for example in from_files]
    assert [example.label for example in from_hub] == [example.label for example in from_files]
    arguments, options = loaded[0]
    assert arguments == (spec.source.repo, spec.source.config)
    assert options == {"split": fixture.split, "revision": spec.source.revision}


@pytest.mark.parametrize("spec", list_tasks(), ids=NAMES)
def test_every_task_is_whole(spec):
    splits = {spec.splits.train, *spec.splits.evaluate, *spec.splits.predict} - {None}
    assert spec.source is not None
    assert splits <= set(spec.files.names)
    assert set(spec.submission) <= set(spec.splits.predict)
    assert not spec.submission_labels or set(spec.submission_labels) == set(spec.labels)
    assert spec.positive is None or spec.positive in spec.labels
    assert spec.scored_with is None or find_task(spec.scored_with).splits.train is not None
    assert (spec.splits.train is None) == (spec.scored_with is not None)
    assert ("f1" in spec.metrics) == (spec.positive is not None)


def test_the_names_are_those_of_the_paper():
    assert set(NAMES) == set(FIXTURES)


def test_the_submission_files_are_the_leaderboards():
    files = {name for spec in list_tasks() for name in spec.submission.values()}
    official = ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI", "AX"]
    assert files == {f"{name}.tsv" for name in official}


def test_listing_tasks_imports_nothing_heavy():
    heavy = ["torch", "numpy", "datasets", "transformers", "pandas", "pyarrow"]
    code = f"import sys; from bertkit.tasks import registry; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The registry


@pytest.fixture
def spare_registry(monkeypatch):
    monkeypatch.setattr(registry, "_TASKS", dict(registry._TASKS))


def test_a_new_task_is_one_value(spare_registry, tmp_path):
    spec = TaskSpec(
        name="snli",
        problem="classification",
        texts=("premise", "hypothesis"),
        labels=("entailment", "neutral", "contradiction"),
        files=GlueFiles("SNLI", texts=("sentence1", "sentence2"), label="gold_label"),
    )
    register_task(spec)
    write(tmp_path, "SNLI/dev.tsv", tsv("gold_label|sentence1|sentence2", "neutral|A.|B.", "-|A.|C."))
    assert find_task("snli") is spec
    assert [example.label for example in read("snli", "validation", tmp_path)] == ["neutral"]


def test_a_taken_name_is_refused_and_the_same_value_is_not(spare_registry):
    register_task(find_task("glue/rte"))
    with pytest.raises(TaskError, match="'glue/rte' is another task's already"):
        register_task(replace(find_task("glue/rte"), metrics=("f1",)))


def test_a_task_without_source_and_files_is_refused(spare_registry):
    with pytest.raises(TaskError, match="neither a source on the Hub nor files"):
        register_task(TaskSpec(name="new", problem="regression", texts=("a",)))
    with pytest.raises(TaskError, match="positive label 'yes'"):
        register_task(replace(find_task("glue/rte"), name="new", positive="yes"))


@pytest.mark.parametrize(("wrong", "nearest"), [("mnli", "glue/mnli"), ("glue/sst-2", "glue/sst2"), ("SQuAD", "squad")])
def test_an_unknown_task_names_the_nearest(wrong, nearest):
    with pytest.raises(TaskError, match=f"no task is called '{wrong}' .did you mean '{nearest}'"):
        find_task(wrong)


# The Hub


def test_the_hubs_ids_are_read_by_its_own_names_in_its_own_order(monkeypatch):
    columns = {"sentence1": ["A."], "sentence2": ["B."], "label": [0]}
    on_the_hub(monkeypatch, columns, names=("not_entailment", "entailment"))
    assert read_split(find_task("glue/rte"), "train")[0].label == "not_entailment"


def test_tags_take_their_names_from_the_data_set_where_the_task_has_none(monkeypatch):
    spec = replace(find_task("conll2003"), name="own", labels=())
    on_the_hub(monkeypatch, {"tokens": [["A"]], "ner_tags": [[1]]}, names=("O", "B-X"), label="ner_tags")
    assert read_split(spec, "train")[0].label == ("B-X",)


def test_a_hub_row_without_a_label_is_left_out_of_training_and_kept_for_prediction(monkeypatch, caplog):
    columns = {"sentence1": ["A.", "B."], "sentence2": ["C.", "D."], "label": [-1, 1], "idx": [7, 8]}
    on_the_hub(monkeypatch, columns)
    with caplog.at_level(logging.INFO):
        assert [example.key for example in read_split(find_task("glue/rte"), "train")] == ["8"]
    assert "1 rows of 'train' have no label" in caplog.text
    assert [example.label for example in read_split(find_task("glue/rte"), "test")] == [None, "not_entailment"]


def test_a_score_to_predict_is_none_and_not_minus_one(monkeypatch):
    on_the_hub(monkeypatch, {"sentence1": ["A."], "sentence2": ["B."], "label": [-1.0], "idx": [0]})
    assert read_split(find_task("glue/stsb"), "test")[0].label is None


@pytest.mark.parametrize(("name", "split"), ALL_SPLITS)
def test_without_network_the_error_says_which_local_files_would_do(name, split, monkeypatch):
    def refuse(*arguments, **options):
        raise ConnectionError("Couldn't reach it on the Hub (OfflineModeIsEnabled)\nmore")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    spec = find_task(name)
    with pytest.raises(TaskError) as told:
        read_split(spec, split)
    assert f"'{split}' of the task '{name}' cannot be read from the Hub" in str(told.value)
    assert f"give --data-dir a folder with {spec.files.folder}/" in str(told.value)
    assert spec.files.names[split][0] in str(told.value)
    assert "\n" not in str(told.value)


def test_the_real_client_offline_gives_the_same_sentence():
    with pytest.raises(TaskError, match="OfflineModeIsEnabled.*RTE/train.tsv of the GLUE download"):
        read_split(find_task("glue/rte"), "train")


def test_a_hub_data_set_with_other_columns_is_refused(monkeypatch):
    on_the_hub(monkeypatch, {"text": ["A."], "label": [0]})
    with pytest.raises(TaskError, match="has no column 'sentence1'; it has 'text', 'label'"):
        read_split(find_task("glue/rte"), "train")


def test_a_hub_label_beyond_the_tasks_labels_is_refused(monkeypatch):
    on_the_hub(monkeypatch, {"sentence": ["A."], "label": [2]})
    with pytest.raises(TaskError, match="glue/cola train:0: the label 2 is none of this task's"):
        read_split(find_task("glue/cola"), "train")


def test_a_task_that_is_not_on_the_hub_asks_for_its_files():
    with pytest.raises(TaskError, match="is not on the Hub: give its files with --data-dir"):
        read_split(replace(find_task("glue/rte"), source=None), "train")


def test_the_splits_of_a_task_read_in_place_of_the_hub_are_those_it_names():
    spec = replace(find_task("glue/rte"), source=HubSource("a/b"), splits=Splits(evaluate=("dev",)))
    assert has_split(spec, "dev")
    with pytest.raises(TaskError, match="no split 'validation'"):
        has_split(spec, "validation")
