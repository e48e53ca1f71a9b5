"""Comparisons: sides in turn, ratios of the same round, FLOPs by hand, and both sides on the same instances."""

import math
import multiprocessing
import os
from functools import partial

import numpy as np
import pytest
from toy_shapes import TINY_DATA, TINY_MODEL, TWO_PHASES
from toy_sides import clocked, dying, failing, refusing

from bertkit.config.load import find_recipe, load_config, validate_config
from bertkit.config.schema import PretrainConfig
from bertkit.data.features import collate_features
from bertkit.data.loader import Position
from bertkit.errors import BertkitError, ConfigError
from bertkit.train.checkpoint import latest_checkpoint
from bertkit.train.setup import build_accelerator
from bertkit.workflows.assemble import build_loader
from bertkit.workflows.bench import predicting, preparing, ranks, resuming
from bertkit.workflows.bench.compare import (
    LEAST_STEPS,
    MOST_STEPS,
    BenchResult,
    Comparison,
    Pair,
    SideResult,
    Spread,
    compare,
    ratio,
    side_result,
    steps_a_round,
    take_turns,
)
from bertkit.workflows.bench.corpora import Sample, open_text, prepared_sample, write_sample
from bertkit.workflows.bench.finetuning import DEVIATION, LENGTH, MEAN_LENGTH, synthetic_pairs
from bertkit.workflows.bench.objectives import OBJECTIVES, CausalWork, with_objective
from bertkit.workflows.bench.ours import build_ours
from bertkit.workflows.bench.predicting import Job, draw_texts, lengths_of, read_texts, write_model, write_rows
from bertkit.workflows.bench.pretraining import bench_phase
from bertkit.workflows.bench.rates import Sizes, build_rates, classification_flops, encoder_flops, pretraining_flops
from bertkit.workflows.bench.request import Request, device_type
from bertkit.workflows.bench.sides import Answer, Round, Side, peak_bytes, reset_peak, running
from bertkit.workflows.bench.stock import _rows_of, _StockBatches, build_stock
from bertkit.workflows.bench.subjects import SUBJECTS, bench
from bertkit.workflows.bench.work import FinetuningWork, PretrainingWork, whole_part
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.watch import Unwatched

TINY = {
    "model": {**TINY_MODEL, "max_position_embeddings": 128},
    "data": TINY_DATA,
    "train": {
        "max_steps": 12,
        "global_batch_size": 8,
        "micro_batch_size": 4,
        "precision": "fp32",
        "phases": TWO_PHASES,
    },
}


def tiny_config(**changes):
    values = {name: dict(section) for name, section in TINY.items()}
    for dotted, value in changes.items():
        section, key = dotted.split("__")
        values.setdefault(section, {})[key] = value
    return validate_config(PretrainConfig, values, source="test")


def children():
    return {process.pid for process in multiprocessing.active_children()}


def comparison(sides, pairs=(), rates=None):
    return Comparison("test", "things/s", tuple(sides), tuple(pairs), settings={}, machine={}, rates=rates)


def test_sides_are_taken_in_turn_and_only_one_works_at_a_time(tmp_path):
    log = tmp_path / "log"
    sides = [Side(name, partial(clocked, name, log)) for name in "ABC"]
    with running(sides, on_start=lambda name, place: None) as opened:
        take_turns(opened, rounds=2, steps=3, watch=Unwatched())
    rows = [line.split() for line in log.read_text().splitlines()]
    assert [row[:2] for row in rows] == [[name, "3"] for name in "ABCABC"]
    ends, starts = [float(row[4]) for row in rows], [float(row[3]) for row in rows]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    assert len({row[2] for row in rows} | {str(os.getpid())}) == 4
    assert not children()


def test_asking_for_the_device_leaves_an_accelerator_in_use_as_it_is():
    device_type()
    accelerator = build_accelerator("bf16")
    assert device_type() == accelerator.device.type
    assert accelerator.mixed_precision == "bf16"


def test_a_side_that_is_killed_while_it_sleeps_is_one_line(tmp_path):
    side = Side("bad", partial(clocked, "bad", tmp_path / "log"))
    with running([side], on_start=lambda name, place: None) as (opened,):
        opened._process.kill()
        opened._process.join()
        with pytest.raises(BertkitError, match=r"^bad was killed .exit code -9."):
            opened.measure(1)
    assert not children()


def test_a_comparison_states_both_sides_and_their_ratio(tmp_path):
    sides = [Side(name, partial(clocked, name, tmp_path / "log")) for name in ("ours", "theirs")]
    result = compare(comparison(sides, [Pair("alike", "ours", "theirs")]), rounds=2, watch=Unwatched(), steps=4)
    assert [side.settings for side in result.sides] == [{"name": "ours"}, {"name": "theirs"}]
    assert result.sides[0].rate == Spread(20, 20, 20)
    assert result.ratios[0].speed.median == 1
    assert result.ratios[0].memory == pytest.approx(1, abs=0.5)
    assert all(side.peak_bytes >= side.base_bytes > 1_000_000 for side in result.sides)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (refusing, "^bad: this cannot be measured: take another$"),
        (failing, "^bad: ValueError: at the first round$"),
        (dying, "^bad was killed .exit code 9., most often because memory ran out"),
    ],
)
def test_a_side_that_fails_gives_one_line_and_leaves_no_process(build, message, tmp_path):
    sides = [Side("good", partial(clocked, "good", tmp_path / "log")), Side("bad", build)]
    with pytest.raises(BertkitError, match=message) as raised:
        compare(comparison(sides), rounds=1, watch=Unwatched())
    assert "\n" not in str(raised.value)
    assert not children()


def test_an_interrupt_ends_every_side(tmp_path):
    side = Side("A", partial(clocked, "A", tmp_path / "log"))
    seen = []

    class Impatient(Unwatched):
        def work(self, description, done, total):
            if description.startswith("round 2"):
                seen.append(children())
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(comparison([side]), rounds=2, watch=Impatient())
    assert len(seen[0]) == 1
    assert not children()


@pytest.mark.parametrize(
    ("settings", "rounds", "message"),
    [
        ((), 0, "--rounds 0 measures nothing"),
        (("train.precision=fp16",), 1, "fp16 needs a GPU"),
        (("model.max_position_embeddings=64",), 1, "max_position_embeddings 64 is less than the 128"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_read(settings, rounds, message):
    config = load_config(
        PretrainConfig, find_recipe("tiny"), settings=["train.phases=[{max_seq_length: 64}]", *settings]
    )
    with pytest.raises(ConfigError, match=message):
        bench("finetune", Request(config, corpus="nowhere", rounds=rounds))


def rounds_of(*totals, peak=100, **fields):
    return [Answer(Round((total / 2, total / 2), **fields), peak) for total in totals]


def test_ratios_are_taken_round_by_round_and_then_their_median():
    # The last round was slow for both: the ratio of medians would be 2, that of the rounds is 3.
    answers = {"ours": rounds_of(1, 1, 10, peak=60), "theirs": rounds_of(2, 3, 40, peak=120)}
    found = ratio(Pair("alike", "ours", "theirs"), answers, {"ours": 30, "theirs": 20})
    assert found.speed == Spread(median=3, low=2, high=4)
    assert (found.memory, found.memory_growth) == (0.5, 0.3)
    assert ratio(Pair("alike", "ours", "theirs"), answers, {}).memory is None


def test_medians_utilisation_and_waiting_of_made_up_numbers():
    side = Side("ours", lambda: None, "bf16")
    own = {"amount": 30, "flops": 600.0, "waited_s": 0.5}
    answers = {"ours": rounds_of(2, 3, 1, **own), "matmul": rounds_of(1, 1, 1, outcome={"bf16": 1000.0})}
    found = side_result(side, answers, Side("matmul", lambda: None), settings={}, base=40)
    assert found.step_s == Spread(1.0, 0.5, 1.5)
    assert found.rate == Spread(15, 10, 30)
    assert found.utilisation == Spread(0.3, 0.2, 0.6)
    assert found.waiting_share.median == 0.25
    assert (found.peak_bytes, found.base_bytes) == (100, 40)


def test_the_number_of_steps_follows_the_pace_within_bounds():
    assert (steps_a_round(0.5), steps_a_round(1000), steps_a_round(0)) == (10, LEAST_STEPS, MOST_STEPS)


def test_flops_equal_a_count_by_hand():
    # 2 layers of 4, feed-forward 8; two instances of 3 and 5 tokens.
    shape = tiny_config().model.model_copy(
        update={"hidden_size": 4, "num_hidden_layers": 2, "intermediate_size": 8, "num_attention_heads": 1}
    )
    lengths = np.array([3, 5])
    weights = 2 * (4 * 4 * 4 + 2 * 4 * 8)  # query, key, value, output; feed-forward there and back
    attention = 2 * 2 * 2 * 4 * (3 * 3 + 5 * 5)  # layers, two products, two FLOPs each
    forward = 2 * weights * 8 + attention
    assert encoder_flops(shape, lengths) == forward
    heads = 2 * 3 * (4 * 4 + 4 * 10) + 2 * 2 * (4 * 4 + 2 * 4)
    assert pretraining_flops(shape, Sizes(lengths, 3), vocab_size=10) == 3 * (forward + heads)
    no_pairs = pretraining_flops(shape, Sizes(lengths, 3), vocab_size=10, has_pairs=False)
    assert no_pairs == 3 * (forward + 2 * 3 * (4 * 4 + 4 * 10))
    classes = 2 * 2 * (4 * 4 + 4 * 3)
    assert classification_flops(shape, Sizes(lengths), num_labels=3, trains=False) == forward + classes
    assert classification_flops(shape, Sizes(lengths), num_labels=3, trains=True) == 3 * (forward + classes)


def test_the_matmul_rate_is_a_number_of_each_precision():
    worker = build_rates(("fp32", "bf16"), tiny_config().model, 16, device="cpu")
    rates = worker.work(1).outcome
    assert set(rates) == {"fp32", "bf16"}
    assert all(math.isfinite(rate) and rate > 1e6 for rate in rates.values())


def test_the_peak_of_memory_can_be_measured_anew():
    held = reset_peak("cpu")
    block = np.ones(25_000_000)
    assert peak_bytes("cpu") >= held + block.nbytes * 0.9


@pytest.fixture
def pretraining(store):
    return PretrainingWork(tiny_config(), store.location, phase=1)


def tokens_of(rows):
    return [[int(id) for id in row["input_ids"]] for row in rows]


@pytest.mark.parametrize("pad_to", [None, 64])
def test_stock_sees_our_instances_step_for_step_masked_alike(pretraining, pad_to):
    stock = _StockBatches(pretraining, pad_to=pad_to)
    steps = pretraining.loader().steps(Position(), micro_batch_tokens=None)
    for _ in range(3):
        rows = _rows_of(next(steps))
        batches = [stock[0] for _ in range(2)]
        padded = [
            (ids[mask.bool()].tolist(), labels[mask.bool()].tolist(), int(next_one))
            for batch in batches
            for ids, mask, labels, next_one in zip(
                batch["input_ids"], batch["attention_mask"], batch["labels"], batch["next_sentence_label"], strict=True
            )
        ]
        expected = [(r["input_ids"].tolist(), r["labels"].tolist(), int(r["next_sentence_label"])) for r in rows]
        assert sorted(padded) == sorted(expected)
        assert len(padded) == 8
        assert all(batch["input_ids"].shape[1] == (pad_to or max(map(len, batch["input_ids"]))) for batch in batches)
        assert all((batch["labels"] != -100).any() for batch in batches)
    steps.close()


def test_stock_rows_of_fine_tuning_keep_their_labels():
    features = synthetic_pairs(120, seed=0, examples=20)
    work = FinetuningWork(tiny_config(train__micro_batch_size=None), features, 120)
    batch = _StockBatches(work, pad_to=LENGTH)[0]
    step = next(iter(work.loader().steps(Position(), micro_batch_tokens=None)))
    assert batch["input_ids"].shape == (8, LENGTH)
    own = {tuple(row["input_ids"].tolist()): int(row["labels"]) for row in _rows_of(step)}
    padded = {
        tuple(ids[mask.bool()].tolist()): int(label)
        for ids, mask, label in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True)
    }
    assert own == padded


def test_synthetic_pairs_are_as_long_as_mnlis():
    features = synthetic_pairs(30522, seed=0)
    assert features.lengths.mean() == pytest.approx(MEAN_LENGTH, abs=0.5)
    assert features.lengths.std() == pytest.approx(DEVIATION, abs=1)
    assert (features.lengths.min(), features.lengths.max()) == (8, LENGTH)
    batch = collate_features(features, np.arange(3))
    assert set(batch["token_type_ids"].tolist()) == {0, 1}
    again = synthetic_pairs(30522, seed=0)
    assert (again.input_ids == features.input_ids).all()


def test_a_pass_of_theirs_divides_the_step_and_keeps_to_our_bounds():
    assert whole_part(256, size=32, tokens=None, length=128) == 32
    assert whole_part(256, size=None, tokens=4096, length=128) == 32
    assert whole_part(30, size=None, tokens=1000, length=128) == 6
    assert whole_part(8, size=None, tokens=None, length=128) == 8
    assert whole_part(7, size=None, tokens=100, length=128) == 1


def test_the_phase_measured_is_the_longest_up_to_128():
    def lengths(*given):
        share = 1 / len(given)
        phases = [{"max_seq_length": each, "share": share} for each in given]
        return bench_phase(tiny_config(train__phases=phases, model__max_position_embeddings=512))

    assert (lengths(64, 128, 512), lengths(512, 256), lengths(32)) == (1, 1, 0)


def test_a_sample_is_even_bounded_and_knows_how_much_more_there_is(corpus_dir, tmp_path):
    config = tiny_config()
    source, data = open_text(config.data, str(corpus_dir), folder=tmp_path, watch=Unwatched())
    documents = list(source.documents())
    total = sum(len(document.text) for document in documents)
    path = tmp_path / "sample.jsonl"
    scale, read = write_sample(source, data, path, chars=total * 3 // 4, watch=Unwatched())
    assert read == len(documents) == 30
    assert 20 <= len(path.read_text().splitlines()) < 30
    assert scale == pytest.approx(4 / 3, rel=0.1)
    assert write_sample(source, data, path, chars=10 * total, watch=Unwatched())[0] == 1


def test_a_prepared_store_is_measured_as_it_is_and_what_is_made_is_removed(store, corpus_dir):
    with prepared_sample(tiny_config(), str(store.path), watch=Unwatched()) as (sample, folder):
        assert sample == Sample(sample.store)
        assert sample.store.path == store.path
    assert store.path.is_dir()
    with prepared_sample(tiny_config(), str(corpus_dir), watch=Unwatched()) as (sample, made):
        assert sample.store.split("train").num_tokens == store.split("train").num_tokens
    assert not folder.exists()
    assert not made.exists()


def test_rows_to_predict_are_plain_texts_of_varied_lengths(store, tmp_path):
    texts = draw_texts(store, rows=50, seed=0)
    assert len({len(text.split()) for text in texts}) > 5
    assert all(text.strip() and "##" not in text for text in texts)
    write_rows(texts, tmp_path / "rows.csv")
    assert read_texts(tmp_path / "rows.csv") == texts


@pytest.fixture
def job(store, tmp_path):
    made = Job(tmp_path / "model", tmp_path / "rows.csv", tmp_path / "few.csv")
    write_model(tiny_config(), store, made.model)
    texts = draw_texts(store, rows=40, seed=0)
    write_rows(texts, made.rows)
    write_rows(texts[:3], made.warm_up)
    return made


def test_predict_and_pipeline_do_the_same_rows_and_agree(job):
    ours, theirs = predicting.build_ours(job).work(1), predicting.build_pipeline(job, "fp32").work(1)
    assert ours.outcome == theirs.outcome
    assert len(ours.outcome) == 40
    assert len(set(ours.outcome)) > 1
    assert ours.amount == theirs.amount == lengths_of(job).sum()
    assert ours.flops == theirs.flops > 0
    note = predicting._agreement({"bertkit fp32": ours, "pipeline fp32": theirs})
    assert "100.00% of 40 rows" in note[0]
    assert predicting._agreement({"bertkit bf16": ours}) == ()


def test_prepare_and_the_tokenizer_alone_are_measured_in_megabytes(corpus_dir, store, tmp_path):
    data = tiny_config(data__tokenizer={"path": str(store.tokenizer_path)}).data
    source, _ = open_text(data, str(corpus_dir), folder=tmp_path, watch=Unwatched())
    ours = preparing.build_ours(source.location, data, tmp_path, 2.0)
    theirs = preparing.build_raw(source, store.tokenizer_path, 2.0)
    assert ours.work(1).amount == theirs.work(1).amount == 2.0
    assert ours.work(1).total_s > 0
    assert theirs.work(1).total_s > 0
    # Every round writes a store of its own, or the second would find the first.
    assert len(list(tmp_path.glob("store-*/manifest.json"))) == 3


def test_a_run_forged_at_step_100_000_goes_on_from_there(store, tmp_path):
    config = resuming._endless(tiny_config(), store)
    resuming.train_until(config, tmp_path / "early", step=resuming.EARLY + 1)
    epoch = resuming.forge(config, store, tmp_path / "early", tmp_path / "late")
    per_epoch = build_loader(config, store, phase=0).num_instances()
    assert epoch == 100_000 * 8 // per_epoch
    for name, step in (("early", 10), ("late", 100_000)):
        seen = []

        class Seeing(resuming._Until):
            def training(self, status, seen=seen):
                seen.append(status.step)
                super().training(status)

        with pytest.raises(resuming._Enough):
            pretrain(config, tmp_path / name, watch=Seeing(step + 1))
        assert seen == [step + 1]
        assert resuming.build(config, tmp_path / name, step).work(1).total_s > 0
        assert latest_checkpoint(tmp_path / name / "checkpoints").step == step


def test_a_rank_among_many_loads_its_own_part_which_is_as_large_as_the_others(store):
    alone, among = (ranks.work_of(tiny_config(), store.location, each) for each in (1, 8))
    assert (among.config.train.global_batch_size, among.rank.process_index, among.rank.num_processes) == (256, 7, 8)
    one, eight = (ranks.build_loading(work) for work in (alone, among))
    assert alone.loader().num_instances() > 0
    for worker in (one, eight):
        did = worker.work(2)
        assert len(did.seconds) == 2 * ranks.LOADING_STEPS
        assert did.total_s > 0
    # 32 instances each of about the same tokens.
    assert eight.work(2).amount == pytest.approx(one.work(2).amount, rel=0.1)
    low, high = ranks.balance(among.loader(), among)
    assert 0.98 < low <= 1 <= high < 1.02


def test_what_many_ranks_cost_more_is_told_as_a_share_of_a_step_of_training():
    seconds = {ranks.ALONE: 2.0, ranks.AMONG: 2.0} | dict(
        zip(map(ranks.name_of, ranks.RANKS), (0.01, 0.01, 0.02, 0.05), strict=True)
    )
    sides = tuple(
        SideResult(name, {}, Spread.of([value]), Spread.of([1.0]), None, Spread.of([0.0]), 1, 0)
        for name, value in seconds.items()
    )
    said = ranks.overheads(BenchResult("ranks", "tokens/s", 1, 1, {}, {}, sides, ()))
    assert said == (
        "loading, one of 8: +0.00% of a step of training",
        "loading, one of 64: +0.50% of a step of training",
        "loading, one of 1,024: +2.00% of a step of training",
    )


def test_both_sides_count_the_same_tokens_and_flops(pretraining):
    ours, theirs = build_ours(pretraining, "fp32"), build_stock(pretraining, "fp32")
    for _ in range(2):
        mine, stock = ours.work(2), theirs.work(2)
        assert mine.amount == stock.amount > 0
        assert mine.flops == stock.flops > 0
        assert len(mine.seconds) == len(stock.seconds) == 2


def test_an_optimizer_that_trainer_lacks_is_not_compared(store):
    request = Request(tiny_config(optim__name="lamb"), corpus=str(store.path))
    with pytest.raises(ConfigError, match="Trainer has no lamb: compare with --set optim.name=adamw"):
        bench("pretrain", request)


def test_what_differs_between_the_objectives_is_the_objective(store):
    masked = tiny_config(masking__whole_word=True, pairs__next_sentence="off")
    works = {name: PretrainingWork(with_objective(masked, name), store.location, 1) for name in OBJECTIVES}
    assert {name: work.config.objective for name, work in works.items()} == {name: name for name in OBJECTIVES}
    assert len({work.config.model.model_dump_json() for work in works.values()}) == 1
    causal = CausalWork(works["mlm"].config, store.location, 1)
    assert causal.our_model().config.is_decoder
    assert not works["mlm"].our_model().config.is_decoder
    rounds = [build_ours(work, "fp32").work(1) for work in (works["mlm"], causal)]
    assert rounds[0].amount == rounds[1].amount


@pytest.mark.slow
def test_objectives_are_measured_against_masked_lm(store):
    result = bench("objectives", Request(tiny_config(), corpus=str(store.path), rounds=1, steps=1))
    assert [ratio.ours for ratio in result.ratios] == ["mlm+nsp", "ltr", "bilm", "mlm, causal attention"]
    assert {ratio.theirs for ratio in result.ratios} == {"mlm"}
    assert all(ratio.speed.median > 0 for ratio in result.ratios)


def test_transformers_bert_is_not_compared_with_what_it_does_not_learn(store):
    config = with_objective(tiny_config(), "ltr")
    with pytest.raises(ConfigError, match="does not learn ltr: bertkit bench objectives"):
        bench("pretrain", Request(config, corpus=str(store.path)))


def test_what_is_not_a_subject_is_refused():
    assert set(SUBJECTS) == {"pretrain", "objectives", "finetune", "predict", "prepare", "resume", "ranks", "startup"}
    with pytest.raises(ConfigError, match="nothing to measure called 'speed'"):
        bench("speed", Request(tiny_config()))
