"""The report of a pre-training run: its curves, its plots, and what its model says of masked words."""

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
from bertkit.workflows.report.masked_words import masked_words
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
    assert "the first guess is right for" in page.text


def test_a_masked_word_has_the_probability_that_stock_bert_gives_it(pretrained):
    model = BertForMaskedLM.from_pretrained(pretrained / "export").eval()
    tokenizer = AutoTokenizer.from_pretrained(pretrained / "export")
    words = masked_words(RunFolder(pretrained))[0]
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
    expected = [w.probability for s in masked_words(RunFolder(pretrained)) for w in s]
    assert [w.probability for s in masked_words(RunFolder(run)) for w in s] == pytest.approx(expected, abs=1e-5)
    shutil.rmtree(run / "store")
    page = page_of(run)
    assert "The model cannot be asked" in page.text
    assert "Masked LM loss (nats)" in page.text


def test_words_of_several_pieces_are_masked_together_where_the_run_masked_whole_words(pretrained, tmp_path):
    run = shutil.copytree(pretrained, tmp_path / "whole")
    config = (run / "config.yaml").read_text().replace("whole_word: false", "whole_word: true")
    (run / "config.yaml").write_text(config)
    pieces = [word for s in masked_words(RunFolder(pretrained)) for word in s]
    whole = [word for s in masked_words(RunFolder(run)) for word in s]
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
