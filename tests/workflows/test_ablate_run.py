"""Comparisons that really run, of two models and two seeds: the table, going on, failing, side by side, stopping."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from statistics import mean, stdev

import pytest
from toy_tasks import write_examples

from bertkit.config.ablate import load_ablation
from bertkit.config.load import with_values
from bertkit.errors import ConfigError, CorpusError, TaskError
from bertkit.workflows.ablate.plan import FinetuneCell, PretrainCell, plan_ablation
from bertkit.workflows.ablate.run import run_ablation
from bertkit.workflows.ablate.watch import UnwatchedAblation

TINY = [
    "pretrain.train.global_batch_size=8",
    "pretrain.model.hidden_size=32",
    "pretrain.model.num_hidden_layers=4",
    "pretrain.model.intermediate_size=64",
    "pretrain.model.max_position_embeddings=64",
    "pretrain.train.phases=[{max_seq_length: 32}]",
    "pretrain.train.precision=fp32",
    "pretrain.data.tokenizer.vocab_size=120",
    "pretrain.data.num_workers=1",
    "pretrain.data.heldout_share=0.1",
    "finetune.train.max_steps=4",
    "finetune.train.global_batch_size=8",
    "finetune.train.precision=fp32",
    "finetune.task.max_seq_length=32",
]


class Seen(UnwatchedAblation):
    """What was told of a comparison."""

    def __init__(self, on_progress=None):
        self.begun, self.over, self.on_progress = [], {}, on_progress

    def started(self, cell):
        self.begun.append(cell.key)

    def progress(self, progress):
        if self.on_progress:
            self.on_progress(progress)

    def ended(self, cell, outcome, figure):
        self.over[cell.key] = (outcome.state, outcome.reason, figure)


@pytest.fixture(scope="module")
def tags(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("data"), "tagging", number=48)


def small_plan(corpus_dir, tags, out, *, table="masking", budget="3steps", models=2, settings=(), parallel=None):
    """The first models of a table and their runs."""
    options = {"table": table, "tasks": str(tags), "budget": budget, "seeds": 2, "parallel": parallel}
    config = load_ablation("tiny", settings=[*TINY, *settings], options={**options, "pretrain.corpus": str(corpus_dir)})
    plan = plan_ablation(config, out)
    chosen = plan.models[:models]
    runs = [run for run in plan.runs if run.model in chosen and not run.config.model.is_feature_based]
    return replace(plan, models=chosen, runs=tuple(runs))


@pytest.fixture(scope="module")
def finished(corpus_dir, tags, tmp_path_factory):
    plan = small_plan(corpus_dir, tags, tmp_path_factory.mktemp("finished") / "out")
    seen = Seen()
    return plan, run_ablation(plan, watch=seen), seen


def times_of(path):
    return {file: file.stat().st_mtime_ns for file in path.rglob("*/results.json")}


def test_the_table_holds_the_mean_and_deviation_of_the_runs_own_results(finished):
    plan, summary, seen = finished
    assert summary.unfinished == ()
    assert len(seen.begun) == 2 + 4
    for row in summary.results.rows[:2]:
        files = sorted((plan.path / "finetune" / row.key / "train").glob("seed-*/results.json"))
        values = [100 * json.loads(file.read_text())["scores"]["heldout"]["f1"] for file in files]
        assert len(values) == 2
        assert row.figures["train"].mean == pytest.approx(mean(values))
        assert row.figures["train"].deviation == pytest.approx(stdev(values))
        assert row.got.steps == 3
        assert row.got.perplexity > 1
    assert summary.results.columns[0].metric == "f1"


def test_the_files_say_the_same_as_the_summary(finished):
    plan, summary, _ = finished
    written = json.loads((plan.path / "results.json").read_text())
    figure = summary.results.rows[0].figures["train"]
    assert written["rows"][0]["figures"]["train"]["mean"] == figure.mean
    assert f"| 80 % | 10 % | 10 % | {figure.mean:.1f} ± {figure.deviation:.1f}" in (plan.path / "table.md").read_text()
    assert f"mask80-same10-rnd10,80 %,10 %,10 %,train,f1,{figure.mean:.4f}" in (plan.path / "table.csv").read_text()
    page = (plan.path / "report.html").read_text()
    assert "Masking procedures" in page
    assert f"{figure.mean:.1f} ± {figure.deviation:.1f}" in page
    assert "Table 8: ablation over masking strategies" in page
    assert not re.search(r"(?:src|href)=\"https?:", page)


def test_all_models_share_one_store_and_only_scores_are_kept_of_the_runs(finished):
    plan, _, _ = finished
    assert (plan.path / "store/manifest.json").is_file()
    assert not list(plan.path.glob("pretrain/*/store"))
    assert len(list(plan.path.glob("pretrain/*/export/model.safetensors"))) == 2
    assert not list(plan.path.glob("finetune/**/model.safetensors"))
    logs = {path.name for path in (plan.path / "logs").iterdir()}
    assert "pretrain-mask80-same10-rnd10.log" in logs
    assert "finetune-mask80-same10-rnd10-train-seed-1.log" in logs


def test_what_is_finished_is_not_run_again_and_more_seeds_run_alone(finished, corpus_dir, tags):
    plan, summary, _ = finished
    before = times_of(plan.path)
    seen = Seen()
    assert run_ablation(plan, watch=seen).results == summary.results
    assert seen.begun == []
    assert times_of(plan.path) == before
    more = plan_ablation(plan.config.model_copy(update={"seeds": 3}), plan.path)
    runs = [run for run in more.runs if run.model in plan.models and not run.config.model.is_feature_based]
    seen = Seen()
    run_ablation(replace(more, models=plan.models, runs=tuple(runs)), watch=seen)
    assert seen.begun == [f"{model.key}/train/seed-2" for model in plan.models]
    assert {file: time for file, time in times_of(plan.path).items() if file in before} == before


def test_the_folder_of_another_comparison_is_refused(finished, corpus_dir, tags):
    plan, _, _ = finished
    with pytest.raises(ConfigError, match="differs in budget, pretrain.train.max_steps"):
        run_ablation(small_plan(corpus_dir, tags, plan.path, budget="4steps"))
    with pytest.raises(ConfigError, match="holds the table 'masking'"):
        run_ablation(small_plan(corpus_dir, tags, plan.path, table="features"))


def test_another_file_of_the_same_name_is_refused_and_not_taken_for_the_first(finished, corpus_dir, tmp_path):
    plan, _, _ = finished
    pinned = (plan.path / "ablation.yaml").read_text()
    other = write_examples(tmp_path / "b", "tagging", number=48, seed=1)
    with pytest.raises(
        ConfigError, match=r"seed-0 holds the results of other settings \(task\.train\): choose another"
    ):
        run_ablation(small_plan(corpus_dir, other, plan.path))
    own = plan.runs[0].config.task.train
    with pytest.raises(ConfigError, match=r"other settings \(task\.evaluate\.0\)"):
        run_ablation(small_plan(corpus_dir, f"{own}+{other}", plan.path))
    assert (plan.path / "ablation.yaml").read_text() == pinned


def test_the_model_of_another_variant_in_a_cells_folder_is_refused(finished):
    plan, _, _ = finished
    first, second = plan.models
    with pytest.raises(ConfigError, match=r"other settings \(masking\.mask_share, masking\.random_share\)"):
        run_ablation(replace(plan, models=(replace(first, config=second.config), second)))


def test_a_comparison_that_was_moved_is_still_finished(finished, corpus_dir, tags, tmp_path):
    plan, summary, _ = finished
    shutil.copytree(plan.path, tmp_path / "moved")
    seen = Seen()
    assert (
        run_ablation(small_plan(corpus_dir, tags, tmp_path / "moved"), watch=seen).results.rows == summary.results.rows
    )
    assert seen.begun == []


def test_models_asked_for_too_late_are_told(finished, caplog):
    plan, _, _ = finished
    with caplog.at_level("WARNING", logger="bertkit"):
        run_ablation(replace(plan, config=plan.config.model_copy(update={"keep_models": True})))
    assert [record.getMessage() for record in caplog.records] == [
        "keep_models came late for 4 of 4 finished runs: their models are gone, and only another --output-dir trains "
        "them again"
    ]


def test_a_folder_of_something_else_is_left_alone(corpus_dir, tags, tmp_path):
    (tmp_path / "diary.txt").write_text("Dear diary")
    with pytest.raises(ConfigError, match="holds no comparison"):
        run_ablation(small_plan(corpus_dir, tags, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["diary.txt"]


def test_a_corpus_that_is_not_there_leaves_nothing_behind(tags, tmp_path):
    with pytest.raises(CorpusError, match="no file or folder"):
        run_ablation(small_plan(tmp_path / "gone", tags, tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_failing_cell_is_named_and_stops_no_other(corpus_dir, tags, tmp_path):
    plan = small_plan(corpus_dir, tags, tmp_path / "out", models=1)
    first, second = plan.runs
    gone = with_values(first.config, {"model.init_from": str(tmp_path / "gone")}, source="test")
    summary = run_ablation(replace(plan, runs=(replace(first, config=gone), second)), watch=(seen := Seen()))
    assert [(each.key, each.state) for each in summary.unfinished] == [(first.key, "failed")]
    assert "gone" in summary.unfinished[0].reason
    assert seen.over[second.key][0] == "finished"
    assert list(summary.results.rows[0].figures["train"].values) == [second.key]
    assert "(1 of 2)" in (plan.path / "table.md").read_text()
    # Mended, the same comparison runs what is missing and nothing else.
    seen = Seen()
    assert run_ablation(plan, watch=seen).unfinished == ()
    assert seen.begun == [first.key]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bare.csv", "text\nthe cat\nthe mat\n", r"^bare: .*label"),
        ("gaps.csv", "text,label\nthe cat,animal\nthe mat,\non mat,nothing\na cat,animal\n", r"^gaps: .* no label"),
        ("heads.csv", "text,label\n", r"^heads: "),
        ("empty.conll", "", r"^empty: "),
        ("answers.json", json.dumps({"data": []}), r"^answers: "),
    ],
)
def test_examples_that_cannot_be_used_are_told_before_any_model_is_begun(
    corpus_dir, tags, tmp_path, name, text, message
):
    (tmp_path / name).write_text(text, encoding="utf-8")
    plan = small_plan(corpus_dir, f"{tags},{tmp_path / name}", tmp_path / "out")
    with pytest.raises(TaskError, match=message):
        run_ablation(plan, watch=(seen := Seen()))
    assert seen.begun == []
    assert not plan.path.exists()


def test_a_damaged_model_is_exported_again_and_what_was_fine_tuned_stays(corpus_dir, tags, tmp_path):
    plan = small_plan(corpus_dir, tags, tmp_path / "out", models=1)
    before = run_ablation(plan).results
    weights = plan.models[0].path / "export" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    shutil.rmtree(plan.runs[1].path)
    summary = run_ablation(plan, watch=(seen := Seen()))
    assert summary.unfinished == ()
    assert seen.begun == [plan.models[0].key, plan.runs[1].key]
    assert weights.read_bytes() == whole
    assert summary.results.rows[0].figures == before.rows[0].figures


@pytest.mark.parametrize("folder", ["finetune/mask80-same10-rnd10/train/seed-0", "pretrain/mask80-same10-rnd10"])
def test_the_folder_of_a_cell_whose_settings_are_damaged_is_named_with_the_remedy(
    finished, corpus_dir, tags, tmp_path, folder
):
    shutil.copytree(finished[0].path, tmp_path / "out")
    (tmp_path / "out" / folder / "config.yaml").write_text("train: [", encoding="utf-8")
    with pytest.raises(ConfigError, match=f"remove .*{folder} and run the same command again"):
        run_ablation(small_plan(corpus_dir, tags, tmp_path / "out"))


def test_runs_of_a_model_that_failed_are_skipped_and_others_go_on(corpus_dir, tags, tmp_path):
    plan = small_plan(corpus_dir, tags, tmp_path / "out")
    bad = plan.models[0]
    no_vocabulary = with_values(bad.config, {"model.vocab_size": 8, "data.tokenizer.vocab_size": 8}, source="test")
    broken = replace(bad, config=no_vocabulary)
    runs = tuple(replace(run, model=broken) if run.model == bad else run for run in plan.runs)
    summary = run_ablation(replace(plan, models=(broken, plan.models[1]), runs=runs))
    states = {each.key: each.state for each in summary.unfinished}
    assert states == {bad.key: "failed", f"{bad.key}/train/seed-0": "skipped", f"{bad.key}/train/seed-1": "skipped"}
    assert summary.results.rows[0].figures == {}
    assert len(summary.results.rows[1].figures["train"].values) == 2


def test_a_bug_in_a_cell_leaves_its_traceback_in_the_cells_log(corpus_dir, tags, tmp_path, monkeypatch):
    import bertkit.workflows.ablate.cells as cells

    monkeypatch.setattr(cells, "finetune", lambda *args, **options: 1 / 0)
    plan = small_plan(corpus_dir, tags, tmp_path / "out", models=1)
    summary = run_ablation(plan)
    assert [each.state for each in summary.unfinished] == ["broken", "broken"]
    assert "ZeroDivisionError" in (plan.path / "logs" / "finetune-mask80-same10-rnd10-train-seed-0.log").read_text()


@pytest.mark.skipif(os.name == "nt", reason="signals to oneself")
def test_a_signal_stops_a_cell_that_goes_on_later_and_finished_ones_do_not_run_again(corpus_dir, tags, tmp_path):
    def at_the_second_model(progress):
        if progress.key == "mask100-same0-rnd0" and progress.doing.startswith("step"):
            os.kill(os.getpid(), signal.SIGTERM)

    plan = small_plan(corpus_dir, tags, tmp_path / "out", budget="30steps")
    seen = Seen(at_the_second_model)
    summary = run_ablation(plan, watch=seen)
    assert summary.stopped_by == "SIGTERM"
    assert seen.over["mask100-same0-rnd0"][0] == "stopped"
    assert len(seen.begun) == 4
    before = times_of(plan.path)
    assert len(before) == 3
    seen = Seen()
    assert run_ablation(plan, watch=seen).stopped_by is None
    assert seen.begun == ["mask100-same0-rnd0", *(f"mask100-same0-rnd0/train/seed-{n}" for n in (0, 1))]
    assert {file: time for file, time in times_of(plan.path).items() if file in before} == before
    log = (plan.path / "logs/pretrain-mask100-same0-rnd0.log").read_text()
    assert "continuing" in log


def test_points_on_the_way_are_models_of_their_own(corpus_dir, tags, tmp_path):
    plan = small_plan(corpus_dir, tags, tmp_path / "out", table="steps", budget="10steps", models=1)
    runs = tuple(run for run in plan.runs if run.row in ("mlm-nsp-20", "mlm-nsp-100") and run.seed == 0)
    summary = run_ablation(replace(plan, runs=runs))
    assert summary.unfinished == ()
    got = {row.key: row.got.steps for row in summary.results.rows if row.got is not None}
    assert got == {f"mlm-nsp-{share}": share / 10 for share in (20, 40, 60, 80, 100)}
    weights = {(plan.models[0].model(share) / name).read_bytes() for share, name in _weights()}
    assert len(weights) == 5
    assert not list((plan.models[0].path / "on-the-way").glob(".*"))
    damaged = plan.models[0].model(0.2) / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    run_ablation(replace(plan, runs=runs), watch=(seen := Seen()))
    assert seen.begun == [plan.models[0].key]
    assert {(plan.models[0].model(share) / name).read_bytes() for share, name in _weights()} == weights


def _weights():
    return [*((share, "model.safetensors") for share in (0.2, 0.4, 0.6, 0.8)), (1.0, "export/model.safetensors")]


@pytest.mark.slow
def test_side_by_side_gives_the_same_numbers(finished, corpus_dir, tags, tmp_path):
    _, alone, _ = finished
    plan = small_plan(corpus_dir, tags, tmp_path / "out", parallel=2)
    seen = Seen()
    together = run_ablation(plan, watch=seen)
    assert together.unfinished == ()
    assert seen.begun[:2] == [model.key for model in plan.models]
    for ours, theirs in zip(together.results.rows[:2], alone.results.rows[:2], strict=True):
        values = {key: theirs.figures["train"].values[key] for key in ours.figures["train"].values}
        assert ours.figures["train"].values == values
        assert ours.got.perplexity == theirs.got.perplexity


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_lost_worker_costs_its_cell_only(corpus_dir, tags, tmp_path):
    plan = small_plan(corpus_dir, tags, tmp_path / "out", parallel=2, budget="60steps")
    victim = plan.models[0].key
    killed = []

    def kill(progress):
        if progress.key == victim and progress.doing.startswith("step") and not killed:
            killed.append(pid_of(plan.path, victim))
            os.kill(killed[0], signal.SIGKILL)

    summary = run_ablation(plan, watch=Seen(kill))
    states = {each.key: each.state for each in summary.unfinished}
    assert states.pop(victim) == "lost"
    assert set(states.values()) == {"skipped"}
    assert "worker-" in next(each.reason for each in summary.unfinished if each.key == victim)
    assert len(summary.results.rows[1].figures["train"].values) == 2
    assert run_ablation(plan, watch=(seen := Seen())).unfinished == ()
    assert seen.begun == [victim, f"{victim}/train/seed-0", f"{victim}/train/seed-1"]


def pid_of(path, model):
    return int(re.search(r"pid (\d+)", (path / "pretrain" / model / ".lock").read_text())[1])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals to another process")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_has_all_workers_save_and_the_same_command_goes_on(corpus_dir, tags, tmp_path, number, code):
    command = [
        *(sys.executable, "-m", "bertkit", "ablate", str(corpus_dir), "--table", "features", "--recipe", "tiny"),
        *("--tasks", str(tags), "--budget", "100000steps", "--parallel", "2", "--seeds", "1"),
        *("--output-dir", str(tmp_path / "out"), "--set", "pretraining_seeds=2"),
        *(f"--set={setting}" for setting in TINY),
    ]
    logs = [tmp_path / "out/pretrain" / name / "metrics.jsonl" for name in ("base", "base-seed-1")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until_s = time.monotonic() + 60
        while not all(log.is_file() and log.stat().st_size for log in logs) and time.monotonic() < until_s:
            time.sleep(0.1)
        workers = [pid_of(tmp_path / "out", name) for name in ("base", "base-seed-1")]
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert f"stopped by {number.name}" in err
    assert "the same command continues from there" in err
    assert "Traceback" not in err + out
    for name in ("base", "base-seed-1"):
        assert list((tmp_path / "out/pretrain" / name / "checkpoints").glob("step-*")), name
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.slow
def test_all_objectives_run_on_pairs_and_on_tags(corpus_dir, tags, tmp_path):
    pairs = tmp_path / "pairs.tsv"
    rows = (f"the cat {n} sat\tthe {'cat' if n % 2 else 'mat'} sat\t{'same' if n % 2 else 'other'}" for n in range(40))
    pairs.write_text("\n".join(["sentence1\tsentence2\tlabel", *rows]) + "\n", encoding="utf-8")
    options = {"table": "objectives", "tasks": f"{pairs},{tags}", "budget": "3steps", "seeds": 1}
    config = load_ablation("tiny", settings=TINY, options={**options, "pretrain.corpus": str(corpus_dir)})
    plan = plan_ablation(config, tmp_path / "out")
    summary = run_ablation(plan)
    assert summary.unfinished == ()
    assert len(plan.models) == 5
    assert summary.results.is_complete
    pair = next(run for run in plan.runs if run.column == "pairs")
    read = (pair.path / "config.yaml").read_text(encoding="utf-8")
    assert "  - sentence1\n  - sentence2\n" in read
    for row in summary.results.rows:
        assert set(row.figures) == {"pairs", "train"}
        assert row.got.steps == 3
        assert row.got.perplexity > 1
    written = "".join((plan.path / name).read_text(encoding="utf-8") for name in ("table.md", "results.json"))
    assert written.count("do not compare") == 2
    assert run_ablation(plan, watch=(seen := Seen())).results == summary.results
    assert seen.begun == []


def test_cells_are_what_the_types_say(finished):
    plan, _, _ = finished
    assert [type(cell) for cell in plan.cells] == [PretrainCell, FinetuneCell, FinetuneCell] * 2
