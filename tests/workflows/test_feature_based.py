"""Feature-based fine-tuning: an encoder that stays as it is, a BiLSTM that reads its layers, the same run folder."""

import json
import math
import typing

import pytest
import torch
from safetensors.torch import load_file
from toy_tasks import toy_config, write_bert, write_examples
from transformers import BertConfig, BertModel
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.config.finetune import BiLSTMConfig, FinetuneConfig
from bertkit.config.load import validate_config
from bertkit.errors import ConfigError
from bertkit.model import BertKitConfig
from bertkit.model.layer_mix import LAYER_CHOICES, mix_layers
from bertkit.model.packing import packed_layout
from bertkit.model.reader import BiLSTMReader, reader_settings
from bertkit.tasks.problems import PROBLEMS
from bertkit.train.optim import build_optimizer
from bertkit.train.tracking import read_metrics
from bertkit.workflows.finetune import finetune
from bertkit.workflows.finetune_setup import planned, rate_scale
from bertkit.workflows.finetuned import open_finetuned
from bertkit.workflows.heads import freeze, freeze_unread, learned_shares, load_with_head
from bertkit.workflows.suite import grid_of, run_cells, seeds_of
from bertkit.workflows.task_data import load_task
from bertkit.workflows.watch import Unwatched

SMALL = {"size": 16, "num_layers": 2}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def finished(bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    config = feature_based(write_examples(folder, "tagging"), bert, "tagging", train__epochs=4)
    return config, folder / "run", finetune(config, folder / "run")


def feature_based(train, bert, problem, *, layers="weighted-all", **changes):
    """A run on a frozen encoder that learns its task in a second or two."""
    changes = {"optim__learning_rate": 1e-2, "model__freeze": "encoder", **changes}
    return toy_config(train, bert, problem, model__bilstm=SMALL | {"layers": layers}, **changes)


def opened(config, problem="tagging", *, seed=0):
    return load_with_head(config.model, PROBLEMS[problem], ["O", "B-CAT"], seed=seed)


def packed():
    ids = torch.tensor([2, 5, 6, 3, 2, 7, 3])
    bounds = {"cu_seqlens": torch.tensor([0, 4, 7], dtype=torch.int32), "max_seqlen": 4}
    return {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), **bounds}


@pytest.mark.parametrize("problem", sorted(PROBLEMS))
def test_every_kind_of_problem_is_learned_while_the_encoder_keeps_every_bit(problem, bert, tmp_path):
    config = feature_based(write_examples(tmp_path, problem), bert, problem, train__epochs=6)
    summary = finetune(config, tmp_path / "run")
    model = open_finetuned(str(tmp_path / "run")).predictor.model
    initial = opened(config, problem).bert.state_dict()
    trained = model.bert.state_dict()
    assert initial.keys() == trained.keys()
    assert all(torch.equal(initial[name], trained[name]) for name in initial)
    assert summary.results["scores"]["heldout"]["num_examples"] > 0
    losses = [row["loss"] for row in read_metrics(tmp_path / "run/metrics.jsonl") if "loss" in row]
    assert sum(losses[-4:]) < sum(losses[:4])


def test_the_reader_and_the_head_learn_and_nothing_else_is_given_to_the_optimizer(finished):
    config, run_dir, _ = finished
    initial = opened(config)
    freeze(initial, "encoder")
    model = open_finetuned(str(run_dir)).predictor.model
    trained = {name for name, parameter in initial.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in initial.named_parameters() if name.startswith(("reader.", "classifier."))}
    after = dict(model.named_parameters())
    assert not any(
        torch.equal(parameter, after[name]) for name, parameter in initial.named_parameters() if name in trained
    )
    groups = build_optimizer(
        initial, learning_rate=1.0, weight_decay=0.1, beta1=0.9, beta2=0.999, epsilon=1e-6
    ).param_groups
    assert sum(len(group["params"]) for group in groups) == len(trained)
    assert all((group["weight_decay"] > 0) == (p.ndim > 1) for group in groups for p in group["params"])


def test_features_are_the_same_in_training_and_in_evaluation_and_the_head_keeps_its_dropout(bert):
    model = opened(feature_based(bert, bert, "tagging", model__hidden_dropout_prob=None))
    states = [mode().bert(**packed(), output_hidden_states=True).hidden_states for mode in (model.train, model.eval)]
    assert all(torch.equal(first, second) for first, second in zip(*states, strict=True))
    assert model.dropout.p == 0.1
    dropped = opened(feature_based(bert, bert, "tagging", model__classifier_dropout=0.3))
    assert (dropped.dropout.p, dropped.config.hidden_dropout_prob) == (0.3, 0.0)


@pytest.mark.parametrize("layers", LAYER_CHOICES)
def test_the_head_reads_what_hand_made_features_of_plain_transformers_give(layers, bert, tmp_path):
    stock = BertModel(BertConfig(**json.loads((bert / "config.json").read_text()) | {"num_hidden_layers": 4})).eval()
    stock.save_pretrained(tmp_path)
    model = opened(feature_based(tmp_path, tmp_path, "tagging", layers=layers)).eval()
    batch = packed()
    spans = [slice(0, 4), slice(4, 7)]
    rows = [stock(batch["input_ids"][span][None], output_hidden_states=True).hidden_states for span in spans]
    states = [torch.cat([row[0] for row in level]) for level in zip(*rows, strict=True)]
    layout = packed_layout(batch["cu_seqlens"], 4, 7, form="packed")
    # Before training, a reader of learned shares has equal ones, and reads what is mixed by hand as its only layer.
    mixed_TF = mix_layers(states, layers)
    config = BertKitConfig(hidden_size=mixed_TF.shape[1], num_hidden_layers=1, num_attention_heads=1)
    config.bilstm = SMALL | {"layers": "last"}
    by_hand = BiLSTMReader(config).eval()
    by_hand.load_state_dict(model.reader.state_dict(), strict=False)
    hidden_TW, _ = by_hand([mixed_TF, mixed_TF], layout)
    assert torch.allclose(model(**batch).logits, model.classifier(hidden_TW), atol=1e-5)


def test_a_run_says_how_it_was_trained_and_which_share_each_layer_has(finished):
    _, run_dir, summary = finished
    results = json.loads((run_dir / "results.json").read_text())
    assert results == summary.results
    assert (results["method"], results["layers"]) == ("feature-based", "weighted-all")
    shares = results["layer_shares"]
    assert math.isclose(sum(shares.values()), 1.0, rel_tol=1e-5)
    assert len(set(shares.values())) == len(shares) > 1
    assert shares == learned_shares(open_finetuned(str(run_dir)).predictor.model)


def test_a_reader_of_one_layer_has_no_shares_and_plain_fine_tuning_no_layers(bert, tmp_path):
    train = write_examples(tmp_path, "classification")
    results = finetune(
        toy_config(train, bert, "classification", train__epochs=1, model__bilstm=SMALL | {"layers": "last"}),
        tmp_path / "a",
    ).results
    assert (results["method"], results["layers"], results["layer_shares"]) == ("fine-tuning", "last", None)
    results = finetune(toy_config(train, bert, "classification", train__epochs=1), tmp_path / "b").results
    assert (results["method"], results["layers"], results["layer_shares"]) == ("fine-tuning", None, None)


class StopAt(Unwatched):
    def __init__(self, step):
        self.step = step

    def training(self, status):
        if status.step == self.step:
            import signal

            signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("stop_at", [1, 7])
def test_stopped_and_run_again_it_ends_with_the_same_bits(finished, tmp_path, stop_at):
    config, run_dir, summary = finished
    stopped = finetune(config, tmp_path / "run", watch=StopAt(stop_at))
    assert (stopped.stopped_by, stopped.step) == ("SIGTERM", stop_at)
    again = finetune(config, tmp_path / "run")
    assert again.results["scores"] == summary.results["scores"]
    assert again.results["layer_shares"] == summary.results["layer_shares"]
    first, second = (load_file(folder / "export/model.safetensors") for folder in (run_dir, tmp_path / "run"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_several_seeds_draw_several_readers_on_one_encoder(bert, tmp_path):
    config = feature_based(write_examples(tmp_path, "classification"), bert, "classification", train__epochs=1)
    summary = run_cells(seeds_of(config, tmp_path / "suite", 2), tmp_path / "suite")
    assert {results["method"] for results in summary.runs.values()} == {"feature-based"}
    first, second = (load_file(tmp_path / f"suite/seed-{n}/export/model.safetensors") for n in (0, 1))
    frozen = {name for name in first if name.startswith("bert.")}
    assert all(torch.equal(first[name], second[name]) for name in frozen)
    drawn = [name for name in first.keys() - frozen if first[name].ndim > 1]
    assert drawn
    assert not any(torch.equal(first[name], second[name]) for name in drawn)


def test_layers_above_those_that_are_read_are_left_out_of_training(bert):
    for layers, num_trained in (("embeddings", 0), ("second-to-last", 1), ("last", 2), ("weighted-all", 2)):
        model = opened(feature_based(bert, bert, "tagging", layers=layers, model__freeze="none"))
        freeze_unread(model, BiLSTMConfig(layers=layers))
        assert [all(p.requires_grad for p in layer.parameters()) for layer in model.bert.layers] == [
            place < num_trained for place in range(2)
        ]
        model(**packed()).logits.sum().backward()
        unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not unused


def test_an_earlier_reader_is_no_part_of_what_is_trained_next(finished, tmp_path):
    _, run_dir, _ = finished
    train = write_examples(tmp_path, "classification")
    model = opened(toy_config(train, run_dir, "classification"), "classification")
    assert model.reader is None
    assert model.bert.pooler is not None


def test_the_choices_of_layers_are_those_of_the_model():
    field = BiLSTMConfig.model_fields["layers"]
    assert typing.get_args(field.annotation) == LAYER_CHOICES


def test_the_settings_a_reader_has_by_default_are_those_of_the_config():
    assert BiLSTMConfig().model_dump(exclude={"learning_rate"}) == reader_settings({})


@pytest.mark.parametrize(("freeze", "rates"), [("none", (1e-3, 5e-5)), ("encoder", (3e-3, 3e-3))])
def test_a_bilstm_begins_anew_so_it_has_a_rate_of_its_own_above_an_encoder_that_is_trained(
    bert, tmp_path, freeze, rates
):
    changes = {"model__freeze": freeze, "optim__learning_rate": rates[1], "train__max_steps": 1}
    config = feature_based(write_examples(tmp_path, "tagging"), bert, "tagging", train__epochs=None, **changes)
    resolved = planned(config)
    assert resolved.model.bilstm.learning_rate == rates[0]
    scale_of = rate_scale(resolved, 2)
    assert scale_of("reader.forwards.0.weight_ih_l0") == pytest.approx(rates[0] / rates[1])
    assert scale_of("classifier.weight") == scale_of("bert.layers.0.attention.qkv.weight") == 1


def test_the_learning_rate_is_a_bilstms_where_nobody_says_another(bert):
    def rate(**changes):
        config = feature_based(bert, bert, "tagging", optim__learning_rate=None, **changes)
        return planned(config).optim.learning_rate

    assert rate() == 1e-3
    assert rate(model__freeze="none") < 1e-4
    config = feature_based(bert, bert, "tagging", optim__learning_rate=0.02)
    assert planned(config).optim.learning_rate == 0.02


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"bilstm": {}, "lora": {}}, "model.lora trains adapters and a plain head, no model.bilstm"),
        ({"bilstm": {}, "freeze": "encoder", "reinit_layers": 1}, "reinit_layers 1 begins layers anew"),
        ({"freeze": "encoder", "reinit_layers": 2}, "--feature-based the second"),
        ({"bilstm": {"size": 0}}, "model.bilstm.size"),
        ({"bilstm": {"num_layers": -1}}, "model.bilstm.num_layers"),
        ({"bilstm": {"dropout": 1.5}}, "model.bilstm.dropout"),
        ({"bilstm": {"layers": "last-4"}}, "'concat-last-4'"),
        ({"bilstm": {"layer": "last"}}, "did you mean 'layers'"),
        ({"bilstm": "weighted-all"}, "model.bilstm"),
    ],
)
def test_settings_that_contradict_one_another_are_named(model, message):
    with pytest.raises(ConfigError, match=message):
        validate_config(FinetuneConfig, {"model": model}, source="test")


@pytest.mark.parametrize("layers", ["concat-last-4", "sum-last-4"])
def test_more_layers_than_the_model_has_are_refused_before_anything_is_written(layers, bert, tmp_path):
    config = feature_based(write_examples(tmp_path, "tagging"), bert, "tagging", layers=layers)
    with pytest.raises(ConfigError, match=f"{layers} takes 4 layers, and the encoder has 2: choose others"):
        finetune(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_papers_grid_of_rates_is_not_for_a_bilstm(bert, tmp_path):
    with pytest.raises(ConfigError, match="leave it or --feature-based out"):
        grid_of(feature_based(bert, bert, "tagging"), tmp_path, "paper")


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_option_makes_a_run_feature_based_and_the_summary_shows_the_layers(bert, tmp_path):
    train = write_examples(tmp_path, "tagging")
    settings = ["task.max_seq_length=32", "train.epochs=1", "train.precision=fp32", "model.bilstm.size=16"]
    command = ["finetune", "tag", "--train", train, "--from", bert, "--feature-based", "--output-dir", tmp_path / "run"]
    done = run(*command, *(f"--set={setting}" for setting in settings))
    assert done.exit_code == 0, done.output
    shown = " ".join(done.stdout.split())
    assert "feature-based: a BiLSTM on weighted-all of a frozen encoder" in shown
    assert "share of each layer" in shown
    assert json.loads((tmp_path / "run/results.json").read_text())["method"] == "feature-based"


def dry(*arguments, bert):
    import yaml

    done = run("finetune", "squad", "--from", bert, "--dry-run", "--feature-based", *arguments)
    assert done.exit_code == 0, done.output
    return yaml.safe_load(done.stdout)


def test_the_option_is_a_frozen_encoder_and_a_bilstm_whose_settings_may_be_given_beside_it(bert, tmp_path):
    config = dry(bert=bert)
    assert (config["model"]["freeze"], config["optim"]["learning_rate"]) == ("encoder", 1e-3)
    paper = {"layers": "weighted-all", "num_layers": 2, "size": 768, "dropout": 0.0}
    assert config["model"]["bilstm"] == paper | {"learning_rate": 1e-3}
    config = dry("--set=model.bilstm.layers=concat-last-4", "--set=optim.learning_rate=2e-3", bert=bert)
    assert (config["model"]["bilstm"]["layers"], config["optim"]["learning_rate"]) == ("concat-last-4", 2e-3)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("model:\n  bilstm:\n    size: 100\n")
    assert dry("--recipe", recipe, bert=bert)["model"]["bilstm"]["size"] == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stable"], "leave it or --feature-based out"),
        (["--grid=paper"], "leave it or --feature-based out"),
        (["--set=model.bilstm=null"], "leave out --set model.bilstm=null"),
        (["--set=model.freeze=null"], "keeps the encoder as it is: leave out --set model.freeze"),
        (["--set=model.freeze = none"], "keeps the encoder as it is: leave out --set model.freeze"),
        (["--set=model.freeze=embeddings"], "keeps the encoder as it is: leave out --set model.freeze"),
        (["--set=model.lora={}"], "set one of the two to null"),
        (["--set=model.reinit_layers=1"], "set one only"),
        (["--set=model.bilstm.layer=last"], "did you mean 'model.bilstm.layers'"),
        (["--recipe=stable"], "set one only"),
    ],
)
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_mistake_gives_one_line_and_exit_code_2(arguments, dry, message, bert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("finetune", "conll2003", "--from", bert, "--feature-based", *arguments, *dry)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.stderr.split())
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in done.output


def test_a_setting_that_says_what_the_option_says_is_taken(bert):
    assert dry("--set", "model.freeze=encoder", bert=bert)["model"]["freeze"] == "encoder"


@pytest.mark.parametrize("options", [["--feature-based"], ["--set=model.freeze=encoder"], []])
def test_what_is_advised_after_a_collapse_works_for_that_kind_of_run(options, bert, tmp_path):
    train = write_examples(tmp_path, "classification")
    settings = ["task.max_seq_length=32", "train.epochs=1", "train.precision=fp32", "optim.learning_rate=1e-9"]
    command = ["finetune", "classify", "--train", train, "--from", bert, "--output-dir", tmp_path / "run", *options]
    command += [f"--set={setting}" for setting in settings]
    shown = " ".join(run(*command).stdout.split())
    assert "collapsed" in shown
    advice = "try a higher or lower optim.learning_rate, more train.epochs, or --set train.retry_collapsed=3"
    assert (advice in shown, "--recipe stable" in shown) == (bool(options), not options)
    again = run(*command, "--set=train.retry_collapsed=1")
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "run/results.json").read_text())["attempts"] == 2


def test_a_task_loaded_for_a_feature_based_run_is_that_of_any_other(bert, tmp_path):
    train = write_examples(tmp_path, "tagging")
    first, second = load_task(feature_based(train, bert, "tagging")), load_task(toy_config(train, bert, "tagging"))
    assert first.content_hash() == second.content_hash()
