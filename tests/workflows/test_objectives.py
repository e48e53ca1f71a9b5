"""Every pre-training objective learns from the same store, in the same loop, and goes on as if never stopped."""

import json

import pytest
import torch
from test_pretrain import StopAt, final_weights, same_bits, tiny_config
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.cli.console import ConsoleWatcher
from bertkit.cli.pretrain import print_summary
from bertkit.errors import ConfigError
from bertkit.train.tracking import read_metrics
from bertkit.workflows.evaluate import evaluate
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.runs import RunFolder

UNMASKED = ("ltr", "ltr+nsp", "bilm")


def config_of(objective, corpus, **changes):
    plain = tiny_config(corpus, **changes).model_dump()
    return type(tiny_config(corpus))(**{**plain, "objective": objective, "pairs": {}})


@pytest.fixture(scope="module", params=UNMASKED)
def finished(request, store, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / request.param
    return request.param, pretrain(config_of(request.param, store.location), run_dir)


def test_it_is_scored_by_its_own_name_and_beside_the_same_baseline(finished):
    objective, summary = finished
    scores = summary.results["heldout"]
    assert {"lm_loss", "lm_accuracy", "lm_perplexity", "unigram_entropy"} <= scores.keys()
    assert "mlm_loss" not in scores
    assert ("nsp_accuracy" in scores) == objective.endswith("+nsp")
    assert evaluate(summary.run_dir)["heldout"] == scores
    rows = [row for row in read_metrics(RunFolder(summary.run_dir).metrics_file) if "loss" in row]
    total = {"ltr+nsp": lambda row: row["lm_loss"] + row["nsp_loss"]}.get(objective, lambda row: row["lm_loss"])
    assert all(row["loss"] == pytest.approx(total(row), abs=1e-4) for row in rows)


def test_stopped_and_run_again_it_ends_with_the_same_bits(finished, store, tmp_path):
    objective, summary = finished
    config = config_of(objective, store.location)
    assert pretrain(config, tmp_path / "run", watch=StopAt(7)).stopped_by == "SIGTERM"
    assert pretrain(config, tmp_path / "run").stopped_by is None
    assert same_bits(final_weights(tmp_path / "run"), final_weights(summary.run_dir))


@pytest.mark.parametrize("objective", ["ltr", "bilm"])
def test_it_learns_more_than_word_frequencies(objective, store, tmp_path):
    config = config_of(objective, store.location, train__max_steps=150, train__phases=[{"max_seq_length": 48}])
    scores = pretrain(config, tmp_path / "run").results["heldout"]
    assert scores["lm_loss"] < scores["unigram_entropy"] - 0.3


@pytest.mark.parametrize(
    ("objective", "name", "short"),
    [
        ("mlm+nsp", "next sentence", "nsp"),
        ("mlm+sop", "sentence order", "sop"),
        ("ltr+sop", "sentence order", "sop"),
    ],
)
def test_what_is_learned_of_pairs_is_shown_by_its_name_and_kept_in_files_by_one(
    objective, name, short, store, tmp_path, capsys
):
    config = config_of(objective, store.location, train__max_steps=2)
    with ConsoleWatcher() as watch:
        print_summary(pretrain(config, tmp_path / "run", watch=watch))
    shown = capsys.readouterr()
    assert f"{name} accuracy" in shown.out
    assert f", {short} 0." in shown.err
    evaluated = CliRunner().invoke(app, ["evaluate", str(tmp_path / "run")])
    assert [each for each in ("next sentence", "sentence order") if each in evaluated.stdout] == [name]
    row = next(row for row in read_metrics(tmp_path / "run/metrics.jsonl") if "loss" in row)
    assert {"nsp_loss", "nsp_accuracy"} <= row.keys()
    assert "nsp_accuracy" in json.loads((tmp_path / "run/results.json").read_text())["heldout"]


def test_settings_of_masks_that_nobody_draws_are_warned_of(store, tmp_path, caplog):
    config = config_of("ltr", store.location, train__max_steps=1, masking__whole_word=True)
    with caplog.at_level("WARNING", logger="bertkit"):
        pretrain(config, tmp_path / "run")
    assert "objective ltr masks nothing: the settings under 'masking' are not used" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING", logger="bertkit"):
        pretrain(config_of("ltr", store.location, train__max_steps=1), tmp_path / "untouched")
    assert "masks nothing" not in caplog.text


def test_the_same_text_is_read_whatever_is_learned_of_it(store, tmp_path):
    runs = [pretrain(config_of(name, store.location), tmp_path / name) for name in ("mlm", "ltr", "bilm")]
    assert len({run.tokens for run in runs}) == 1


def test_a_bert_goes_on_from_left_to_right_and_a_bilm_does_not(store, tmp_path):
    pretrain(config_of("mlm", store.location), tmp_path / "bert")
    config = config_of("ltr", store.location, train__init_from=str(tmp_path / "bert"))
    pretrain(config, tmp_path / "ltr")
    from transformers import BertLMHeadModel

    assert BertLMHeadModel.from_pretrained(tmp_path / "ltr" / "export").config.is_decoder
    with pytest.raises(ConfigError, match="is a 'bert' model, which objective bilm does not train"):
        pretrain(config_of("bilm", store.location, train__init_from=str(tmp_path / "bert")), tmp_path / "bilm")


def test_a_bilm_goes_on_as_a_bilm_and_another_direction_is_told(store, tmp_path, caplog):
    pretrain(config_of("bilm", store.location), tmp_path / "bilm")
    more = config_of("bilm", store.location, train__init_from=str(tmp_path / "bilm"), train__max_steps=2)
    loss = pretrain(more, tmp_path / "more").results["heldout"]["lm_loss"]
    assert (
        loss
        < pretrain(config_of("bilm", store.location, train__max_steps=2), tmp_path / "new").results["heldout"][
            "lm_loss"
        ]
    )
    assert "goes on" not in caplog.text
    pretrain(config_of("ltr", store.location, train__max_steps=2), tmp_path / "ltr")
    turned = config_of("mlm", store.location, train__init_from=str(tmp_path / "ltr"), train__max_steps=2)
    pretrain(turned, tmp_path / "turned")
    assert "is left-to-right and goes on bidirectional: objective ltr keeps it as it is" in caplog.text


def test_no_word_of_the_left_to_right_export_depends_on_a_later_one(store, tmp_path):
    from transformers import BertLMHeadModel

    config = config_of("ltr", store.location, train__max_steps=2)
    model = BertLMHeadModel.from_pretrained(pretrain(config, tmp_path / "run").export_dir).eval()
    ids = torch.randint(5, 100, (1, 12), generator=torch.Generator().manual_seed(0))
    changed = ids.index_fill(1, torch.tensor([8]), 4)
    before, after = model(ids).logits, model(changed).logits
    torch.testing.assert_close(before[:, :8], after[:, :8])
    assert not torch.allclose(before[:, 8:], after[:, 8:])
