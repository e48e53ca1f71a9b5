"""The report of a pre-training run: its curves, its plots, and what its model says of masked words."""

import json
import re
import shutil
import xml.etree.ElementTree as ET

import pytest
import torch
from toy_pages import page_of
from transformers import AutoTokenizer, BertForMaskedLM

from bertkit.config.load import validate_config
from bertkit.config.schema import PretrainConfig
from bertkit.workflows.plots import write_plots
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.report.curves import Logged, pretraining_charts
from bertkit.workflows.report.guessed_words import guessed_words
from bertkit.workflows.report.history import History
from bertkit.workflows.runs import RunFolder


@pytest.fixture(scope="module")
def pretrained(corpus_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "tiny"
    values = {
        "corpus": str(corpus_dir),
        "model": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64},
        "data": {"num_workers": 1, "heldout_share": 0.1, "tokenizer": {"vocab_size": 120}},
        "train": {"max_steps": 8, "global_batch_size": 8, "precision": "fp32", "phases": [{"max_seq_length": 64}]},
        "every": {"log_steps": 2, "evaluate_steps": 4},
    }
    pretrain(validate_config(PretrainConfig, values, source="test"), folder)
    return folder


def test_pretraining_shows_curves_health_and_masked_words(pretrained):
    page = page_of(pretrained)
    for title in (
        "Loss and accuracy",
        "Masked LM loss (nats)",
        "Next sentence accuracy",
        "Gradient norm before clipping",
    ):
        assert title in page.text
    plots = [each for each in page.all("div") if each.get("class") == "plot"]
    assert {each["data-axis"] for each in plots} == {"steps", "tokens", "time"}
    words = [each for each in page.all("span") if each.get("class", "").startswith("word l") and "data-rank" in each]
    assert len(words) > 20
    assert {each["role"] for each in words} == {"img"}
    assert all(re.search(r".+, [\d.]+ %, rank [\d,]+$", each["aria-label"]) for each in words)
    assert "the first guess is right for" in page.text


def test_a_masked_word_has_the_probability_that_stock_bert_gives_it(pretrained):
    model = BertForMaskedLM.from_pretrained(pretrained / "export").eval()
    tokenizer = AutoTokenizer.from_pretrained(pretrained / "export")
    words = guessed_words(RunFolder(pretrained)).sentences[0]
    pieces = [("##" if word.is_piece else "") + word.text for word in words]
    ids = [tokenizer.cls_token_id, *tokenizer.convert_tokens_to_ids(pieces), tokenizer.sep_token_id]
    for place in (0, len(words) // 2, len(words) - 1):
        masked = torch.tensor([ids])
        masked[0, place + 1] = tokenizer.mask_token_id
        with torch.no_grad():
            shares = model(masked).logits[0, place + 1].softmax(-1)
        assert words[place].probability == pytest.approx(shares[ids[place + 1]].item(), rel=1e-3)
        assert words[place].rank == int((shares > shares[ids[place + 1]]).sum()) + 1
        best = tokenizer.convert_ids_to_tokens(int(shares.argmax())).removeprefix("##")
        assert words[place].guesses[0][0] == best


def test_without_checkpoints_the_export_answers_and_without_a_store_a_line_says_why(pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "moved")
    shutil.rmtree(run / "checkpoints")
    expected = [w.probability for s in guessed_words(RunFolder(pretrained)).sentences for w in s]
    assert [w.probability for s in guessed_words(RunFolder(run)).sentences for w in s] == pytest.approx(
        expected, abs=1e-5
    )
    shutil.rmtree(run / "store")
    page = page_of(run)
    assert "The model cannot be asked" in page.text
    assert "Masked LM loss (nats)" in page.text


def test_words_of_several_pieces_are_masked_together_where_the_run_masked_whole_words(pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "whole")
    config = (run / "config.yaml").read_text().replace("whole_word: false", "whole_word: true")
    (run / "config.yaml").write_text(config)
    pieces = [word for s in guessed_words(RunFolder(pretrained)).sentences for word in s]
    whole = [word for s in guessed_words(RunFolder(run)).sentences for word in s]
    assert [word.text for word in whole] == [word.text for word in pieces]
    inner = [place for place, word in enumerate(pieces) if word.is_piece]
    assert inner
    assert any(whole[place].probability != pytest.approx(pieces[place].probability) for place in inner)


def test_a_run_under_way_is_reported_as_far_as_it_is(pretrained, tmp_path):
    run = tmp_path / "begun"
    run.mkdir()
    for name in ("config.yaml", "environment.json", "pinned.json"):
        shutil.copy(pretrained / name, run)
    page = page_of(run)
    assert "not finished" in page.text
    assert "The run has logged nothing yet" in page.text
    assert write_plots(RunFolder(run)) == []


def test_plots_are_whole_pictures_and_the_training_curve_comes_first(pretrained, tmp_path):
    plots = write_plots(RunFolder(pretrained))
    assert plots[0] == pretrained / "plots/training.png"
    for path in plots:
        if path.suffix == ".png":
            assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        else:
            assert ET.parse(path).getroot().tag.endswith("svg")
    before = [path.read_bytes() for path in plots]
    assert [path.read_bytes() for path in write_plots(RunFolder(pretrained))] == before


def write_log(run, rows):
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def healthy_rows(store_entropy=4.0):
    """Of 0.1M to 0.2M tokens, the loss in the middle of the band of a small model."""
    return [
        {"step": 100 * n, "loss": 1.1 * store_entropy, "mlm_loss": 1.1 * store_entropy, "grad_norm": 1.0,
         "learning_rate": 1e-3, "tokens_per_s": 900.0, "tokens": 10_000 * n, "elapsed_s": float(n)}
        for n in range(1, 21)
    ]  # fmt: skip


def test_no_run_is_called_healthy_that_nothing_was_held_against(pretrained, tmp_path):
    assert "the run is too short" in page_of(pretrained).text
    run = shutil.copytree(pretrained, tmp_path / "went-on")
    write_log(run, healthy_rows())
    assert "goes as healthy runs of its size do" in page_of(run).text
    config = (run / "config.yaml").read_text()
    assert "init_from: null" in config
    (run / "config.yaml").write_text(config.replace("init_from: null", "init_from: runs/base"))
    text = page_of(run).text
    assert "healthy runs" not in text
    assert "no reference bands for a run that began with a trained model" in text


@pytest.mark.parametrize(
    "row",
    [
        {"step": 30, "mlm_loss": 5.0},
        {"step": 30, "mlm_loss": "low", "loss": 1.0, "tokens": 9, "elapsed_s": 1.0},
        {"step": 30, "mlm_loss": 5.0, "loss": 1.0, "tokens": None, "elapsed_s": 1.0},
        {"step": 30, "heldout_mlm_loss": "low"},
    ],
)
def test_a_row_that_lacks_a_figure_or_has_a_word_for_it_costs_no_more_than_itself(row, pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "edited")
    (run / "results.json").unlink()
    write_log(run, [*healthy_rows(), row])
    assert "Masked LM loss (nats)" in page_of(run).text


def test_levels_of_runs_on_different_text_are_one_a_run_and_as_long_as_the_longest_curve(pretrained):
    def logged(name, entropy, steps):
        rows = [{"step": s, "mlm_loss": 5.0, "loss": 5.0, "tokens": s, "elapsed_s": 1.0} for s in range(1, steps + 1)]
        return Logged(name, History(rows, [{"step": steps, "heldout_unigram_entropy": entropy}]))

    def levels(*runs):
        (chart,) = pretraining_charts(runs, pairs="next sentence")
        return [(s.name, s.y[0], s.x["steps"].tolist()) for s in chart.series if s.style == "reference"]

    assert levels(logged("a", 6.0, 10), logged("b", 6.0, 50)) == [("word frequencies alone", 6.0, [1, 50])]
    different = levels(logged("a", 6.0, 10), logged("b", 7.0, 50))
    assert [each[:2] for each in different] == [("a, word frequencies alone", 6.0), ("b, word frequencies alone", 7.0)]
    assert {tuple(each[2]) for each in different} == {(1, 50)}
