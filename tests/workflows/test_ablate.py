"""The comparisons as plans: what is varied, what every cell is, and what is refused before anything is begun."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import pytest
from toy_corpus import write_corpus
from toy_tasks import write_bert, write_examples

from bertkit.config.ablate import TABLES, load_ablation, parse_budget
from bertkit.config.load import differing_keys
from bertkit.errors import BertkitError, ConfigError, TaskError
from bertkit.workflows.ablate import examples
from bertkit.workflows.ablate.cells import Outcome
from bertkit.workflows.ablate.comparisons import comparison_of
from bertkit.workflows.ablate.forms import got_grid, paper_figure, paper_grid
from bertkit.workflows.ablate.paper import PUBLISHED
from bertkit.workflows.ablate.plan import plan_ablation
from bertkit.workflows.ablate.results import ColumnResults, Got, collect
from bertkit.workflows.ablate.tasks import find_compared
from bertkit.workflows.ablate.todo import Todo
from bertkit.workflows.task_data import load_task


def ablation(table, *settings, recipe="mini", **options):
    options = {"table": table, "budget": "20steps", "seeds": 2, "pretrain.corpus": "corpus"} | options
    return load_ablation(recipe, settings=settings, options=options)


@pytest.fixture
def tasks(tmp_path):
    cats, tags = write_examples(tmp_path / "a", "classification"), write_examples(tmp_path / "b", "tagging")
    cats.rename(tmp_path / "cats.jsonl")
    tags.rename(tmp_path / "tags.conll")
    return f"{tmp_path / 'cats.jsonl'},{tmp_path / 'tags.conll'}"


@pytest.mark.parametrize(
    ("text", "steps", "minutes"),
    [
        ("10m", None, 10), ("90s", None, 1.5), ("1.5h", None, 90), ("2 minutes", None, 2), ("1 hour", None, 60),
        ("30min", None, 30), ("2000steps", 2000, None), ("2,000 steps", 2000, None), ("1 step", 1, None),
    ],
)  # fmt: skip
def test_a_budget_is_a_number_with_its_unit(text, steps, minutes):
    budget = parse_budget(text)
    assert (budget.max_steps, budget.max_minutes) == (steps, minutes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10m", "10 minutes"), ("1m", "1 minute"), ("90s", "1.5 minutes"), ("1.1h", "66 minutes"), ("8s", "8 seconds"),
        ("1s", "1 second"), ("100s", "100 seconds"), ("1step", "1 step"), ("2000steps", "2,000 steps"),
    ],
)  # fmt: skip
def test_a_budget_is_said_in_the_unit_that_makes_a_short_number(text, words):
    assert parse_budget(text).words == words


@pytest.mark.parametrize(
    "text", ["10", "", "m", "0m", "0steps", "-5m", "1.5steps", "10 parsecs", "10m 3s", "nanm", "1e3m"]
)
def test_anything_else_is_no_budget_and_the_message_gives_examples(text):
    with pytest.raises(ConfigError, match="2000steps"):
        parse_budget(text)


def test_every_model_of_a_table_has_the_same_budget_and_differs_in_what_the_table_varies_only():
    varied = {
        "objectives": {"objective", "pairs.next_sentence", "model.num_hidden_layers"},
        "sizes": {
            *("model.num_hidden_layers", "model.hidden_size"),
            *("model.num_attention_heads", "model.intermediate_size"),
        },
        "masking": {"masking.mask_share", "masking.random_share"},
        "steps": {"objective", "pairs.next_sentence"},
        "features": set(),
    }  # fmt: skip
    for table in TABLES:
        plan = plan_ablation(ablation(table, tasks="cola"), path=_nowhere(table))
        first, *others = [model.config for model in plan.models]
        assert {model.config.train.max_steps for model in plan.models} == {20}
        assert {model.config.train.epochs for model in plan.models} == {None}
        found = {key for other in others for key in differing_keys(first, other)}
        assert found == varied[table]


def _nowhere(name):
    return Path("nowhere") / name


def test_the_objectives_are_the_papers_rows_and_two_more():
    plan = plan_ablation(ablation("objectives", tasks="cola"), _nowhere("a"))
    found = {model.key: (model.config.objective, model.config.pairs.next_sentence) for model in plan.models}
    assert found == {
        "mlm-nsp": ("mlm+nsp", "nsp"), "mlm": ("mlm", "off"), "ltr": ("ltr", "off"),
        "ltr-nsp": ("ltr+nsp", "nsp"), "bilm": ("bilm", "off"),
    }  # fmt: skip
    with_bilstm = {run.row for run in plan.runs if run.config.model.bilstm is not None}
    assert with_bilstm == {"ltr-bilstm"}
    assert {run.model.key for run in plan.runs if run.row == "ltr-bilstm"} == {"ltr"}


@pytest.mark.parametrize(
    ("recipe", "shapes"),
    [
        ("base", [(3, 768, 12), (6, 768, 3), (6, 768, 12), (12, 768, 12), (12, 1024, 16), (24, 1024, 16)]),
        ("mini", [(1, 256, 4), (2, 256, 1), (2, 256, 4), (4, 256, 4), (4, 320, 5), (8, 320, 5)]),
    ],
)
def test_the_sizes_stand_to_one_another_as_the_papers(recipe, shapes):
    comparison = comparison_of(ablation("sizes", recipe=recipe))
    assert [tuple(map(int, row.cells)) for row in comparison.rows] == shapes
    for pretraining in comparison.pretrainings:
        assert pretraining.settings["model.intermediate_size"] == 4 * pretraining.settings["model.hidden_size"]


def test_two_layers_are_too_few_for_the_sizes():
    assert len(comparison_of(ablation("sizes", recipe="tiny")).rows) < 6
    with pytest.raises(ConfigError, match="too few"):
        comparison_of(ablation("sizes", "pretrain.model.num_hidden_layers=1"))


def test_masking_shares_add_up_and_only_tagging_is_also_feature_based(tasks):
    plan = plan_ablation(ablation("masking", tasks=tasks), _nowhere("a"))
    assert [column.key for column in plan.columns] == ["cats", "tags", "tags-feature-based"]
    for row in plan.comparison.rows:
        assert sum(int(cell.removesuffix(" %")) for cell in row.cells) == 100
    features = [run for run in plan.runs if run.column == "tags-feature-based"]
    assert features
    assert all(run.config.model.is_feature_based for run in features)
    assert {run.config.model.bilstm.layers for run in features} == {"concat-last-4"}


def test_steps_are_taken_at_fifths_of_two_models():
    plan = plan_ablation(ablation("steps", tasks="cola", budget="1000steps"), _nowhere("a"))
    assert [model.key for model in plan.models] == ["mlm-nsp", "ltr"]
    assert {model.config.every.save_steps for model in plan.models} == {200}
    assert {model.takes for model in plan.models} == {(0.2, 0.4, 0.6, 0.8, 1.0)}
    assert len(plan.comparison.rows) == 10
    places = {run.config.model.init_from for run in plan.runs}
    assert len(places) == 10


def test_fewer_steps_than_points_are_refused():
    with pytest.raises(ConfigError, match="5 steps or more"):
        ablation("steps", budget="4steps")


def test_features_take_every_choice_of_layers_from_one_model():
    plan = plan_ablation(ablation("features", tasks="conll2003"), _nowhere("a"))
    assert len(plan.models) == 1
    tuned = [run for run in plan.runs if not run.config.model.is_feature_based]
    assert {run.row for run in tuned} == {"fine-tuned"}
    layers = {run.config.model.bilstm.layers for run in plan.runs if run.config.model.is_feature_based}
    assert layers == {"embeddings", "second-to-last", "last", "sum-last-4", "concat-last-4", "weighted-all"}


def test_too_few_layers_for_the_last_four_are_refused_before_anything_is_trained(tasks):
    with pytest.raises(ConfigError, match="num_hidden_layers 2 is too few for features of the last 4 layers"):
        plan_ablation(ablation("features", recipe="tiny", tasks="cola"), _nowhere("a"))
    with pytest.raises(ConfigError, match="or leave tagging tasks out"):
        plan_ablation(ablation("masking", recipe="tiny", tasks=tasks), _nowhere("a"))
    assert plan_ablation(ablation("masking", recipe="tiny", tasks="cola"), _nowhere("a")).runs


def test_models_that_go_on_from_another_are_of_its_shape_and_it_is_opened_first(tmp_path):
    bert = write_bert(tmp_path / "bert")
    with pytest.raises(ConfigError, match="there is no folder .*gone, and "):
        plan_ablation(ablation("masking", f"pretrain.train.init_from={tmp_path}/gone", tasks="cola"), tmp_path / "out")
    short = "pretrain.train.phases=[{max_seq_length: 32}]"
    config = ablation("masking", f"pretrain.train.init_from={bert}", short, tasks="cola")
    plan = plan_ablation(config, tmp_path / "out")
    assert {model.config.model.hidden_size for model in plan.models} == {32}
    assert {model.config.data.tokenizer.path for model in plan.models} == {str(bert)}
    with pytest.raises(ConfigError, match="num_hidden_layers 2 is too few"):
        plan_ablation(ablation("features", f"pretrain.train.init_from={bert}", short, tasks="cola"), tmp_path / "out")


def test_mrpc_is_scored_as_the_paper_prints_it_unless_another_figure_is_asked_for():
    plan = plan_ablation(ablation("sizes", tasks="mrpc,cola"), _nowhere("a"))
    assert {run.column: run.config.task.metric for run in plan.runs} == {"mrpc": "accuracy", "cola": None}
    asked = plan_ablation(ablation("sizes", "finetune.task.metric=f1", tasks="mrpc"), _nowhere("a"))
    assert {run.config.task.metric for run in asked.runs} == {"f1"}


@pytest.mark.parametrize(("metric", "expected"), [("accuracy", 86.7), ("", 86.7), ("f1", None)])
def test_the_papers_figure_stands_beside_one_of_the_same_metric_only(metric, expected):
    column = ColumnResults("mrpc", "glue/mrpc", "mrpc", metric)
    assert paper_figure(PUBLISHED["objectives"], "mlm-nsp", column) == expected


def test_the_notes_say_what_a_table_does_not():
    def notes(table, **options):
        return " ".join(comparison_of(ablation(table, **options)).notes)

    assert "ELMo's own use is as features" in notes("objectives")
    assert "learns at 0.001" in notes("objectives")
    assert all("do not compare" in notes(table) for table in ("objectives", "steps"))
    assert "larger models see fewer tokens" in notes("sizes", budget="3m")
    assert "fewer tokens" not in notes("sizes", budget="300steps")
    assert "never saw [MASK]" in notes("masking")


def test_seeds_of_pre_training_are_crossed_with_those_of_fine_tuning():
    plan = plan_ablation(ablation("features", "pretraining_seeds=2", tasks="cola"), _nowhere("a"))
    assert [model.key for model in plan.models] == ["base", "base-seed-1"]
    assert [model.config.train.seed for model in plan.models] == [0, 1]
    runs = [run for run in plan.runs if run.row == "fine-tuned"]
    assert [run.path.name for run in runs] == [
        "seed-0", "seed-1", "pretraining-1-seed-0", "pretraining-1-seed-1",
    ]  # fmt: skip
    assert [run.config.train.seed for run in runs] == [0, 1, 0, 1]


def test_settings_reach_every_cell_and_a_runs_length_is_the_budgets():
    config = ablation(
        "masking", "pretrain.optim.learning_rate=0.5", "finetune.task.max_train_examples=7", tasks="cola", budget="3m"
    )
    plan = plan_ablation(config, _nowhere("a"))
    assert {model.config.optim.learning_rate for model in plan.models} == {0.5}
    assert {model.config.train.max_minutes for model in plan.models} == {3}
    assert {run.config.task.max_train_examples for run in plan.runs} == {7}


@pytest.mark.parametrize(
    ("table", "setting", "message"),
    [
        ("objectives", "pretrain.objective=mlm", "compares values of"),
        ("objectives", "pretrain.pairs.next_sentence=off", "compares values of"),
        ("masking", "pretrain.masking.mask_share=0.5", "compares values of"),
        ("features", "finetune.model.bilstm.size=12", "compares values of"),
        ("sizes", "pretrain.train.max_steps=3", "is said by --budget"),
        ("objectives", "pretrain.pairs={next_sentence: off}", "compares values of"),
        ("sizes", "pretrain.train.init_from=x", "shapes"),
        ("objectives", "pretrain.train.init_from=x", "directions"),
        ("steps", "pretrain.train.init_from=x", "directions"),
        ("masking", "pretrain.objective=ltr", "masked LMs"),
        ("sizes", "finetune.task.name=cola", "said by --tasks"),
        ("sizes", "finetune.model.init_from=x", "said by the pre-trained models"),
        ("sizes", "seeds=3", "give it as that"),
        ("sizes", "pretrain.optim.learning_rat=1", "learning_rate'"),
        ("sizes", "finetun.optim.learning_rate=1", r"did you mean '.*finetune"),
        ("sizes", "finetune.optim.learning_rate=fast", "finetune.optim.learning_rate"),
        ("sizes", "pretrain=3", "pretrain"),
        ("sizes", "model.hidden_size=64", "pretrain.KEY"),
        ("sizes", "task.max_seq_length=64", "finetune.KEY"),
    ],
)
def test_settings_that_contradict_the_table_are_refused_in_one_sentence(table, setting, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ablation(table, setting)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cola,colaa", "did you mean 'glue/cola'"),
        ("cola,cola", "'cola' twice"),
        ("nowhere/train.csv", "there is no file nowhere/train.csv"),
        ("ax", "only scored"),
        ("", "an entry of --tasks is empty"),
        ("cola,", "an entry of --tasks is empty"),
    ],
)
def test_unknown_and_repeated_tasks_are_refused(given, message):
    with pytest.raises(BertkitError, match=message):
        plan_ablation(ablation("sizes", tasks=given), _nowhere("a"))


def test_tasks_of_a_folder_without_their_files_are_refused_before_anything_begins(tmp_path):
    config = ablation("sizes", tasks="cola", **{"finetune.task.data_dir": str(tmp_path)})
    with pytest.raises(TaskError, match="CoLA"):
        plan_ablation(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_own_task_may_have_a_file_to_score(tasks, tmp_path):
    tags = tasks.split(",")[1]
    task = find_compared(f"{tags}+{tags}", data_dir=None)
    assert (task.key, task.is_tagging) == ("tags", True)
    assert task.settings["task.evaluate"] == [tags]
    with pytest.raises(TaskError, match=r"there is no file .*gone.conll to score"):
        find_compared(f"{tags}+{tmp_path / 'gone.conll'}", data_dir=None)


@pytest.mark.parametrize("table", TABLES)
def test_what_the_paper_published_fits_the_rows_of_the_table(table):
    published, comparison = PUBLISHED[table], comparison_of(ablation(table))
    rows = [row.key for row in comparison.rows]
    assert set(published.rows) <= set(rows)
    assert set(published.perplexity) in (set(), set(published.rows))
    for words, figures in published.rows.values():
        assert words
        assert len(figures) == len(published.columns)
        assert all(50 < figure < 100 for figure in figures)
    if table != "objectives" and published.rows:
        assert list(published.rows) == rows


def test_the_papers_table_is_whole():
    plan = plan_ablation(ablation("objectives", tasks="mrpc"), _nowhere("a"))
    head, rows = paper_grid(collect(plan))
    assert head[1:] == (
        "MNLI-m (accuracy)", "QNLI (accuracy)", "MRPC (accuracy)", "SST-2 (accuracy)", "SQuAD (F1)",
    )  # fmt: skip
    assert rows[2] == ("LTR & No NSP", "82.1", "84.3", "77.5", "92.1", "77.8")


def _finished_run(cell, value, *, collapsed=None, digest="a"):
    cell.path.mkdir(parents=True)
    results = {
        "task": "cats", "problem": "classification", "step": 3, "best_step": 3, "attempts": 1, "num_train_examples": 9,
        "elapsed_s": 1.0, "headline": "heldout_accuracy", "collapsed": collapsed,
        "scores": {"heldout": {"accuracy": value}},
        "options": {"task": "cats", "problem": "classification", "metrics": ["accuracy"]}, "data_hash": digest,
        "evaluation_hash": digest,
    }  # fmt: skip
    (cell.path / "results.json").write_text(json.dumps(results), encoding="utf-8")


def test_means_and_deviations_are_those_of_the_cells_in_percent(tasks, tmp_path):
    plan = plan_ablation(ablation("features", tasks=tasks.split(",")[0], seeds=3), tmp_path)
    values = (0.5, 0.75, 0.875)
    for cell, value in zip(plan.runs[:3], values, strict=True):
        _finished_run(cell, value, collapsed="one class" if value == 0.5 else None)
    results = collect(plan)
    figure = results.rows[0].figures["cats"]
    assert figure.mean == pytest.approx(100 * mean(values))
    assert figure.deviation == pytest.approx(100 * stdev(values))
    assert figure.collapsed == 1
    assert (results.done, results.total) == (3, 1 + 7 * 3)
    assert results.rows[1].figures == {}


def test_deviations_over_several_models_are_those_of_their_means(tasks, tmp_path):
    config = ablation("features", "pretraining_seeds=2", tasks=tasks.split(",")[0])
    plan = plan_ablation(config, tmp_path)
    values = (0.5, 0.6, 0.8, 0.9)
    for number, (cell, value) in enumerate(zip(plan.runs[:4], values, strict=True), start=1):
        _finished_run(cell, value)
        if number == 2:
            assert collect(plan).rows[0].figures["cats"].deviation is None
    figure = collect(plan).rows[0].figures["cats"]
    assert figure.mean == pytest.approx(70)
    assert figure.deviation == pytest.approx(stdev((55, 85)))
    assert "deviations are those of the models' means" in collect(plan).notes[0]


def test_cells_that_were_scored_on_other_examples_share_no_table(tasks, tmp_path):
    plan = plan_ablation(ablation("features", tasks=tasks.split(",")[0]), tmp_path)
    _finished_run(plan.runs[0], 0.5)
    _finished_run(plan.runs[1], 0.5, digest="b")
    with pytest.raises(BertkitError, match="other examples"):
        collect(plan)


def test_examples_are_read_once_a_task_and_only_for_cells_that_are_left(tasks, tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(examples, "load_task", lambda config: (read.append(config.task.train), load_task(config))[1])
    plan = plan_ablation(ablation("masking", tasks=tasks), tmp_path / "out")
    cats, tags = tasks.split(",")
    for left, expected in (
        (plan.cells, [cats, tags]),
        ([run for run in plan.runs if run.column == "tags-feature-based"], [tags]),
        (plan.models, []),
    ):
        read.clear()
        examples.require_examples(plan, left)
        assert read == expected


def test_a_task_that_is_longer_than_the_models_is_told_before_they_are_begun(tasks, tmp_path):
    plan = plan_ablation(ablation("sizes", "finetune.task.max_seq_length=600", tasks=tasks), tmp_path / "out")
    with pytest.raises(TaskError, match="cats: max_seq_length 600 exceeds the 512 positions of the models"):
        examples.require_examples(plan, plan.cells)


def test_what_every_model_got_tells_budgets_of_seconds_apart(tasks, tmp_path):
    results = collect(plan_ablation(ablation("features", tasks=tasks), tmp_path))
    shown = []
    for seconds in (2, 8):
        got = Got(1.0, steps=3, tokens=900, minutes=seconds / 60, parameters=None, perplexity=None)
        head, rows = got_grid(replace(results, rows=(replace(results.rows[0], got=got),)))
        shown.append(rows[0][head.index("minutes")])
    assert shown == ["0.03", "0.13"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("failed", "there is no model base"),
        ("lost", "the model base was lost with its worker, and the same command goes on with it"),
    ],
)
def test_runs_without_their_model_say_why_it_is_not_there(tmp_path, state, reason):
    plan = plan_ablation(ablation("features", tasks="cola"), tmp_path)
    skipped = Todo(plan.cells[1:]).over(plan.models[0], Outcome("base", state))
    assert {outcome.reason for _, outcome in skipped} == {reason}


def test_planning_touches_nothing(tasks, tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    before = sorted(tmp_path.rglob("*"))
    plan_ablation(ablation("objectives", tasks=tasks, **{"pretrain.corpus": str(corpus)}), tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before
