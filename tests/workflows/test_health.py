"""Symptoms of pre-training: a healthy run has none, each sick one is told once, in words, with the right remedy."""

import logging

import pytest
from toy_corpus import write_corpus

from bertkit.config.load import validate_config
from bertkit.config.schema import PretrainConfig
from bertkit.errors import CheckpointError
from bertkit.train.tracking import read_metrics
from bertkit.workflows.health import HealthWatch, Reference, bands, bands_of, findings
from bertkit.workflows.health.bands import usual_learning_rate
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.runs import RunFolder

MINI, BASE = 3_150_000, 85_000_000
# Steps, tokens, masked LM loss and next sentence accuracy of recipe mini on 7 books (recipes/README.md), 2026-11-22.
MEASURED = [
    (50, 89_963, 8.44, 0.50),
    (250, 452_595, 6.36, 0.52),
    (450, 814_101, 6.15, 0.50),
    (650, 1_175_526, 6.09, 0.52),
    (850, 1_537_088, 6.07, 0.54),
    (1050, 1_898_103, 6.00, 0.55),
    (1250, 2_260_577, 5.98, 0.56),
    (1450, 2_622_495, 5.87, 0.57),
    (1650, 2_985_661, 5.87, 0.60),
    (1850, 3_347_542, 5.79, 0.59),
    (2050, 3_707_549, 5.74, 0.61),
    (2250, 4_068_081, 5.71, 0.66),
    (2450, 4_452_515, 5.74, 0.66),
    (2650, 5_135_246, 5.76, 0.71),
    (2850, 5_816_072, 5.75, 0.70),
    (3002, 6_337_202, 5.71, 0.62),
]
WORDS_ALONE = 6.44


def row(step, loss=6.0, *, tokens=None, rate=1e-3, pace=10_000.0, **others):
    return {
        "step": step,
        "tokens": step * 1800 if tokens is None else tokens,
        "mlm_loss": loss,
        "learning_rate": rate,
        "tokens_per_s": pace,
        **others,
    }


def told(rows, **reference):
    watch = HealthWatch(Reference(**{"num_parameters": MINI, "unigram_entropy": WORDS_ALONE, **reference}))
    return [found for each in rows for found in watch.add(each)]


def test_a_measured_healthy_run_gives_nothing_to_say():
    assert told([row(s, loss, tokens=t, nsp_accuracy=nsp) for s, t, loss, nsp in MEASURED]) == []


def test_a_measured_healthy_run_lies_in_all_bands():
    steps, tokens, losses, nsp = zip(*MEASURED[1:], strict=True)
    of_mini = {"num_parameters": MINI, "unigram_entropy": WORDS_ALONE, "steps": steps, "tokens": tokens}
    for figure, values in {"mlm_loss": losses, "nsp_accuracy": nsp}.items():
        points = bands(figure, **of_mini)
        assert len(points) == len(values)
        assert all(point.low <= value <= point.high for point, value in zip(points, values, strict=True))


def test_the_end_of_bert_base_as_its_author_told_it_lies_in_the_band():
    (point,) = bands("mlm_loss", num_parameters=BASE, unigram_entropy=7.2, steps=[1_000_000], tokens=[40_000_000_000])
    assert point.low < 1.4 < 2.0 < point.high  # nats held out; "something better than -2.0" is to be expected


def test_bands_go_down_with_tokens_and_with_size_and_accuracy_goes_up():
    steps, tokens = (1_000, 10_000, 100_000), (4_000_000, 40_000_000, 400_000_000)
    for num_parameters in (400_000, MINI, BASE):
        known = {"num_parameters": num_parameters, "unigram_entropy": 7.0, "steps": steps, "tokens": tokens}
        losses, accuracies = bands("mlm_loss", **known), bands("mlm_accuracy", **known)
        assert losses[0].low > losses[1].low > losses[2].low
        assert losses[0].high > losses[1].high > losses[2].high
        assert accuracies[0].high < accuracies[1].high < accuracies[2].high
        assert all(0 <= point.low < point.high <= 1 for point in [*accuracies, *bands("nsp_accuracy", **known)])
    small, large = (
        bands("mlm_loss", num_parameters=n, unigram_entropy=7.0, steps=[100_000], tokens=[10**9])[0]
        for n in (MINI, BASE)
    )
    assert large.high < small.high


def test_the_first_tokens_are_not_judged():
    assert bands("mlm_loss", num_parameters=MINI, unigram_entropy=7.0, steps=[10], tokens=[20_000]) == []


def test_large_batches_are_judged_by_their_updates():
    def band(step):
        return bands("mlm_loss", num_parameters=BASE, unigram_entropy=7.0, steps=[step], tokens=[100_000_000])[0]

    # 100 million tokens are 3,000 updates in batches of BERT's: the plateau has hardly been left.
    assert band(3_000).high > band(50_000).high


@pytest.mark.parametrize(
    ("rate", "remedy"),
    [(5e-2, "lower optim.learning_rate"), (1e-6, "raise optim.learning_rate"), (1e-3, "smaller batches")],
)
def test_a_plateau_at_word_frequencies_names_the_remedy_for_its_learning_rate(rate, remedy):
    (found,) = told([row(step, 6.43, rate=rate) for step in range(100, 6000, 50)])
    assert found.kind == "plateau"
    assert "word frequencies alone (6.44)" in found.text
    assert remedy in found.text


def test_a_loss_worse_than_word_frequencies_is_told():
    (found,) = told([row(step, 8.9, rate=1e-6) for step in range(20, 800, 20)])
    assert found.kind == "above"
    assert "worse than word frequencies alone" in found.text


def test_a_loss_that_rises_again_is_told_with_the_best_step():
    (found,) = told([row(step, 6.1 if step <= 600 else 6.9) for step in range(50, 1500, 50)])
    assert found.kind == "diverging"
    assert "from 6.10 at step" in found.text


def test_a_run_slower_than_others_of_its_size_is_told():
    kinds = [found.kind for found in told([row(step, 6.0) for step in range(1_000, 40_000, 500)])]
    assert kinds == ["slow"]


@pytest.mark.parametrize(("copies", "says"), [(0.4, "40% of the text's lines are copies"), (0.0, "of one pattern")])
def test_a_loss_too_good_to_be_true_names_the_copies_in_the_text_where_there_are_any(copies, says):
    (found,) = told([row(step, 2.0) for step in range(500, 2000, 50)], duplicate_line_share=copies)
    assert found.kind == "too_easy"
    assert says in found.text
    assert "0% of" not in found.text.replace("40% of", "")


@pytest.mark.parametrize(("accuracy", "kind"), [(0.0, "accuracy_below"), (0.6, "accuracy_above")])
def test_an_accuracy_that_does_not_go_with_its_loss_is_told(accuracy, kind):
    rows = [row(s, loss, tokens=t, nsp_accuracy=nsp, mlm_accuracy=accuracy) for s, t, loss, nsp in MEASURED]
    (found,) = told(rows)
    assert found.kind == kind
    assert f"masked LM accuracy is {accuracy:.1%}" in found.text


def test_rows_that_lack_a_figure_are_passed_over():
    assert told([{"step": 5, "mlm_loss": 6.0}, {"step": 6}, row(100, 6.4)]) == []


def test_next_sentences_that_are_too_easy_or_not_learned_at_all_are_told():
    easy = told([row(step, 6.1, nsp_accuracy=0.97) for step in range(100, 1000, 50)])
    assert [found.kind for found in easy] == ["nsp_too_easy"]
    at_chance = [row(step, 2.0, tokens=step * 32_000, nsp_accuracy=0.5) for step in range(200_000, 300_000, 5_000)]
    assert [found.kind for found in told(at_chance, num_parameters=BASE)] == ["nsp_at_chance"]


def test_a_held_out_loss_that_rises_for_three_evaluations_is_told_once_and_again_after_a_recovery():
    rising = [5.0, 4.8, 4.95, 5.0, 5.05, 5.1]
    rows = [{"step": step, "heldout_mlm_loss": loss} for step, loss in enumerate([*rising, 4.7, *rising])]
    found = told(rows)
    assert [each.kind for each in found] == ["overfitting", "overfitting"]
    assert "5.05, up from 4.80" in found[0].text


def test_a_run_that_slows_down_to_less_than_half_is_told():
    rows = [row(step, 6.1, pace=10_000 if step < 1_500 else 3_000) for step in range(50, 2_500, 50)]
    (found,) = told(rows)
    assert found.kind == "slowed_down"
    assert "3,000 tokens/s, where the run had 10,000" in found.text


def test_a_short_excursion_is_not_told():
    rows = [row(step, 9.0 if step in (900, 950) else 6.1) for step in range(50, 1_500, 50)]
    assert told(rows) == []


def test_what_is_over_and_comes_back_is_told_again():
    losses = [6.1] * 20 + [7.5] * 20 + [6.05] * 20 + [7.5] * 20
    found = told([row(50 * (number + 1), loss, rate=1e-3) for number, loss in enumerate(losses)])
    assert [each.kind for each in found] == ["diverging", "diverging"]


def test_a_run_from_a_trained_model_is_not_judged_by_bands():
    assert told([row(step, 1.5, nsp_accuracy=0.99) for step in range(100, 3000, 50)], from_scratch=False) == []


def test_unknown_tokens_and_copies_in_the_text_are_told_before_the_first_step():
    texts = [
        found.text
        for found in HealthWatch(Reference(MINI, 6.0, unknown_share=0.2, duplicate_line_share=0.5)).of_corpus()
    ]
    assert len(texts) == 2
    assert "20.0% of the tokens are [UNK]" in texts[0]
    assert "50% of the lines are copies" in texts[1]
    assert HealthWatch(Reference(MINI, 6.0)).of_corpus() == []


def test_the_order_of_sentences_is_not_judged_by_the_band_of_next_sentences():
    row = {"step": 20_000, "tokens": 80_000_000, "mlm_loss": 3.0, "nsp_accuracy": 0.5}
    assert Reference(MINI, WORDS_ALONE).band("nsp_accuracy", row) is not None
    assert Reference(MINI, WORDS_ALONE, next_sentence=False).band("nsp_accuracy", row) is None
    assert Reference(MINI, WORDS_ALONE, next_sentence=False).band("mlm_loss", row) is not None


def test_usual_learning_rates_are_those_of_the_recipes():
    assert usual_learning_rate(400_000) == pytest.approx(2e-3)
    assert usual_learning_rate(12_600_000) == pytest.approx(5e-4, rel=0.3)  # small
    assert usual_learning_rate(BASE) == pytest.approx(2e-4)
    assert usual_learning_rate(300_000_000) == pytest.approx(2e-4)


@pytest.fixture(scope="module")
def repetitive_run(tmp_path_factory):
    """A run on text of which most lines are copies, stopped by its settings, and what it warned of."""
    folder = tmp_path_factory.mktemp("repetitive")
    corpus = write_corpus(folder / "corpus", documents=12)
    text = (corpus / "animals.txt").read_text(encoding="utf-8")
    copied = "A line of a notice that stands below every page of all of this.\n"
    (corpus / "animals.txt").write_text(text.replace(".\n", f".\n{copied}"), encoding="utf-8")
    return folder, corpus


def config_of(corpus, max_steps):
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 32}
    return validate_config(
        PretrainConfig,
        {
            "corpus": str(corpus),
            "model": {**shape, "max_position_embeddings": 32},
            "data": {"num_workers": 1, "heldout_share": 0.2, "tokenizer": {"vocab_size": 150}},
            "train": {
                "max_steps": max_steps,
                "global_batch_size": 4,
                "precision": "fp32",
                "phases": [{"max_seq_length": 32, "share": 1.0}],
            },
            "every": {"log_steps": 1, "save_steps": 2},
        },
        source="test",
    )


def test_a_run_warns_while_it_goes_on_and_not_again_when_it_is_continued(repetitive_run, caplog):
    folder, corpus = repetitive_run
    with caplog.at_level(logging.WARNING, logger="bertkit"):
        pretrain(config_of(corpus, 4), folder / "run")
    assert "of the lines are copies of an earlier one" in caplog.text
    found = findings(RunFolder(folder / "run"))
    assert [each.kind for each in found] == ["corpus"]
    # The run is too short to be judged by bands.
    assert bands_of(RunFolder(folder / "run")) == {"mlm_loss": [], "mlm_accuracy": [], "nsp_accuracy": []}
    assert read_metrics(folder / "run" / "metrics.jsonl")[-1]["step"] == 4
    caplog.clear()
    (folder / "run" / "results.json").unlink()
    with caplog.at_level(logging.WARNING, logger="bertkit"):
        pretrain(config_of(corpus, 4), folder / "run")
    assert "copies" not in caplog.text


def test_a_run_whose_store_is_gone_is_judged_by_its_scores(repetitive_run):
    folder, corpus = repetitive_run
    run = RunFolder(folder / "gone")
    pretrain(config_of(corpus, 2), run.path)
    (run.store / "manifest.json").unlink()
    assert findings(run) == []


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is not a run folder"):
        findings(RunFolder(tmp_path))
