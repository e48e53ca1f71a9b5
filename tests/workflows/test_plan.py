"""A plan agrees with the store and with the run it stands for, says what it guessed, and leaves nothing behind."""

import contextlib
import tempfile

import pytest
from toy_shapes import TINY_DATA, TINY_MODEL, TWO_PHASES

from bertkit.config.load import validate_config
from bertkit.config.schema import PretrainConfig
from bertkit.errors import ConfigError
from bertkit.workflows import plan as planning
from bertkit.workflows.assemble import build_loader, run_budget
from bertkit.workflows.bench.corpora import Sample
from bertkit.workflows.bench.sides import Answer, Ready, Round, peak_bytes
from bertkit.workflows.plan import Line, plan

TINY = {
    "model": TINY_MODEL,
    "data": TINY_DATA,
    "train": {
        "epochs": 3,
        "global_batch_size": 8,
        "precision": "fp32",
        "phases": TWO_PHASES,
    },
}


def config_for(corpus, **train):
    return validate_config(PretrainConfig, TINY | {"corpus": str(corpus), "train": TINY["train"] | train}, source="t")


@pytest.fixture
def measured(monkeypatch):
    """Steps that take 0.1 s and 0.02 s an instance, hold 1 MB and 500 bytes a token, at 20 tokens an instance."""
    asked = []

    def measure(config, store, phase, instances):
        asked.append((phase, instances))
        tokens = 20 * instances
        seconds = (0.1 + 0.02 * instances,) * 2
        return Answer(Round(seconds, amount=2 * tokens, largest=tokens), peak_bytes=1_000_000 + 500 * tokens)

    monkeypatch.setattr(planning, "_measure_pass", measure)
    monkeypatch.setattr(planning, "free_memory", lambda: 2_000_000)
    return asked


def test_documents_tokens_and_steps_of_a_prepared_store_are_exact(store, measured):
    config = config_for(store.path)
    planned = plan(config)
    train = store.split("train")
    assert (planned.documents, planned.tokens, planned.documents_read) == (train.num_documents, train.num_tokens, None)
    budget = run_budget(config, store)
    assert planned.steps == budget.max_steps
    assert planned.phases[0].steps == budget.phase_ends(budget.max_steps)[0]
    assert planned.epochs == pytest.approx(3, abs=0.1)
    assert planned.phases[0].instances_an_epoch == build_loader(config, store, phase=0).num_instances()
    # 3 seconds hold 92 instances at the 0.26 seconds of 8.
    assert measured == [(0, 8), (0, 92), (1, 8), (1, 92)]


def test_hours_and_memory_lie_on_the_measured_lines(store, measured):
    planned = plan(config_for(store.path, epochs=None, max_steps=1000, global_batch_size=100))
    first, second = planned.phases
    assert (first.steps, second.steps) == (750, 250)
    assert first.step_s == pytest.approx(0.1 + 0.02 * 100)
    assert planned.hours == pytest.approx(1000 * 2.1 / 3600)
    assert first.tokens_a_step == pytest.approx(2000)
    assert first.tokens_a_pass == 2000
    assert planned.peak_bytes == pytest.approx(1_000_000 + 500 * 2000)
    assert first.largest_pass_tokens == pytest.approx((0.9 * 2_000_000 - 1_000_000) / 500, abs=1)
    assert planned.tokens_to_train == pytest.approx(2_000_000)


def test_the_memory_is_that_of_the_passes_the_recipe_would_make(store, measured):
    by_tokens = plan(config_for(store.path, micro_batch_tokens=60))
    assert {phase.tokens_a_pass for phase in by_tokens.phases} == {60}
    by_size = plan(config_for(store.path, micro_batch_size=2))
    assert {phase.tokens_a_pass for phase in by_size.phases} == {40}


def test_by_the_clock_each_phase_gets_its_share_of_the_time(store, measured):
    planned = plan(config_for(store.path, epochs=None, max_minutes=10))
    assert planned.hours == pytest.approx(1 / 6, rel=0.01)
    assert [phase.hours for phase in planned.phases] == pytest.approx([0.125, 0.125 / 3], rel=0.01)


def test_text_is_sampled_and_what_is_estimated_is_said(corpus_dir, store, measured, monkeypatch):
    exact = plan(config_for(corpus_dir))
    assert exact.tokens == store.split("train").num_tokens
    assert exact.documents_read is None
    monkeypatch.setattr(planning, "prepared_sample", half_of(store))
    estimated = plan(config_for(corpus_dir))
    assert estimated.tokens == 2 * exact.tokens
    assert estimated.documents_read == 60
    assert "estimated: 60 documents were read" in estimated.notes[-1]
    assert estimated.steps == pytest.approx(2 * exact.steps, abs=2)


def half_of(store):
    @contextlib.contextmanager
    def prepared_sample(config, corpus, *, watch):
        yield Sample(store, scale=2.0, documents_read=60), store.path

    return prepared_sample


def test_memory_that_does_not_grow_bounds_nothing():
    assert Line.through((1, 10), (2, 8)) == Line(8, 0)
    assert Line.through((2, 10), (4, 30)) == Line(0, 10)
    assert Line.through((2, 30), (4, 50)).at(10) == 110


def test_without_a_corpus_there_is_nothing_to_plan(store):
    config = config_for(store.path).model_copy(update={"corpus": None})
    with pytest.raises(ConfigError, match="no corpus was named"):
        plan(config)


@contextlib.contextmanager
def running_here(sides, *, on_start):
    """Sides in this process, which has imported everything."""
    (side,) = sides
    worker = side.build()

    class Here:
        ready = Ready(worker.pace_s, worker.settings, worker.base_bytes)

        def measure(self, steps):
            return Answer(worker.work(steps), peak_bytes("cpu"))

    yield [Here()]


def test_measured_for_real_it_leaves_nothing_on_disk(store, corpus_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "running", running_here)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(planning, "MOST_LARGE_PASS", 32)
    monkeypatch.setattr(planning, "SECONDS_A_MEASUREMENT", 0.0)
    planned = plan(config_for(corpus_dir, phases=[{"max_seq_length": 32}]))
    assert planned.tokens == store.split("train").num_tokens
    assert planned.hours > 0
    assert planned.peak_bytes > 10_000_000
    assert planned.free_bytes > 10_000_000
    assert list(tmp_path.iterdir()) == []
