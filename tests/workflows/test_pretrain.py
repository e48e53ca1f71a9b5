"""The spine, end to end: text in, stock BERT out; stopped anywhere, it ends with the same bits."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
import yaml
from safetensors.torch import load_file
from toy_corpus import write_corpus
from toy_shapes import TINY_DATA, TINY_MODEL, TWO_PHASES

from bertkit.config.load import validate_config
from bertkit.config.schema import PretrainConfig
from bertkit.errors import CheckpointError, ConfigError, CorpusError
from bertkit.train.tracking import read_metrics
from bertkit.workflows.evaluate import evaluate
from bertkit.workflows.export import export
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.runs import RunFolder, newest_run
from bertkit.workflows.watch import Unwatched

TINY = {
    "model": TINY_MODEL,
    "data": TINY_DATA,
    "optim": {"learning_rate": 3e-3},
    "train": {
        "max_steps": 12,
        "global_batch_size": 8,
        "micro_batch_size": 4,
        "precision": "fp32",
        "phases": TWO_PHASES,
    },
    "every": {"log_steps": 2, "save_steps": 5, "keep_checkpoints": 2},
}


def tiny_config(corpus, **changes):
    values = {name: dict(section) for name, section in TINY.items()}
    for dotted, value in changes.items():
        section, key = dotted.split("__")
        values.setdefault(section, {})[key] = value
    return validate_config(PretrainConfig, values | {"corpus": str(corpus)}, source="test")


def final_weights(run_dir):
    return load_file(sorted((run_dir / "checkpoints").glob("step-*"))[-1] / "model.safetensors")


def same_bits(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class StopAt(Unwatched):
    """Sends this process a signal while step number `step` is being reported, as an impatient user would."""

    def __init__(self, step, number=signal.SIGTERM):
        self.step, self.number = step, number

    def training(self, status):
        if status.step == self.step:
            os.kill(os.getpid(), self.number)


@pytest.fixture(scope="module")
def finished(corpus_dir, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    return pretrain(tiny_config(corpus_dir), run_dir)


def test_a_run_leaves_what_it_promises(finished):
    names = {path.name for path in finished.run_dir.iterdir()}
    assert names >= {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "results.json",
        "store",
        "checkpoints",
        "export",
    }
    assert finished.step == 12
    assert [row["step"] for row in read_metrics(finished.run_dir / "metrics.jsonl")] == [2, 4, 6, 8, 10, 12]
    config = yaml.safe_load((finished.run_dir / "config.yaml").read_text())
    assert config["train"]["max_steps"] == 12


def test_scores_stand_beside_their_baselines(finished):
    scores = finished.results["heldout"]
    assert scores["mlm_perplexity"] == pytest.approx(torch.tensor(scores["mlm_loss"]).exp().item(), rel=1e-4)
    assert 0.5 <= scores["nsp_majority"] <= 1
    assert scores["unigram_entropy"] > 0
    assert json.loads((finished.run_dir / "results.json").read_text())["heldout"] == scores


def test_two_evaluations_of_one_checkpoint_agree_to_the_last_digit(finished):
    assert evaluate(finished.run_dir) == evaluate(finished.run_dir) == finished.results


def test_the_export_opens_in_a_process_that_has_no_bertkit_and_gives_the_same_logits(finished, tmp_path):
    from bertkit.model import BertKitForPreTraining

    script = textwrap.dedent("""
        import sys, torch
        sys.modules["bertkit"] = None  # any import of bertkit fails
        from transformers import AutoModelForMaskedLM, AutoTokenizer
        folder, out = sys.argv[1:]
        model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        batch = tokenizer(["The cat sees the [MASK].", "A [MASK]."], padding=True, return_tensors="pt")
        torch.save({"batch": dict(batch), "logits": model(**batch).logits.detach(), "name": type(model).__name__}, out)
    """)
    out = tmp_path / "logits.pt"
    subprocess.run([sys.executable, "-c", script, str(finished.export_dir), str(out)], check=True, capture_output=True)
    theirs = torch.load(out, weights_only=True)
    assert theirs["name"] == "BertForMaskedLM"
    model = BertKitForPreTraining.from_pretrained(finished.export_dir).eval()
    ours = model(**theirs["batch"]).prediction_logits
    real = theirs["batch"]["attention_mask"].bool()
    assert torch.allclose(ours[real], theirs["logits"][real], atol=1e-5)


@pytest.mark.parametrize("stop_at", [3, 5, 9, 11])
def test_stopped_by_a_signal_and_run_again_it_ends_with_the_same_bits(finished, corpus_dir, tmp_path, stop_at):
    run_dir = tmp_path / "run"
    stopped = pretrain(tiny_config(corpus_dir), run_dir, watch=StopAt(stop_at))
    assert (stopped.stopped_by, stopped.step) == ("SIGTERM", stop_at)
    assert stopped.export_dir is None
    again = pretrain(tiny_config(corpus_dir), run_dir)
    assert (again.stopped_by, again.step) == (None, 12)
    assert same_bits(final_weights(run_dir), final_weights(finished.run_dir))
    assert again.results["heldout"] == finished.results["heldout"]
    assert [row["step"] for row in read_metrics(run_dir / "metrics.jsonl")] == [2, 4, 6, 8, 10, 12]


def test_killed_without_warning_it_ends_with_the_same_bits(finished, corpus_dir, tmp_path):
    run_dir = tmp_path / "run"
    script = textwrap.dedent("""
        import os, pathlib, signal, sys, yaml
        from bertkit.config.schema import PretrainConfig
        from bertkit.workflows.pretrain import pretrain
        from bertkit.workflows.watch import Unwatched
        class Kill(Unwatched):
            def training(self, status):
                if status.step == 8:
                    os.kill(os.getpid(), signal.SIGKILL)
        config = PretrainConfig.model_validate(yaml.safe_load(sys.stdin))
        pretrain(config, pathlib.Path(sys.argv[1]), watch=Kill())
    """)
    config = yaml.safe_dump(tiny_config(corpus_dir).model_dump(mode="json"))
    killed = subprocess.run([sys.executable, "-c", script, str(run_dir)], input=config, text=True, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["step-0000005"]
    pretrain(tiny_config(corpus_dir), run_dir)
    assert same_bits(final_weights(run_dir), final_weights(finished.run_dir))


def test_a_run_that_has_begun_needs_its_corpus_no_more(finished, tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    pretrain(tiny_config(corpus), tmp_path / "run", watch=StopAt(6))
    (corpus / "animals.txt").unlink()
    assert pretrain(tiny_config(corpus), tmp_path / "run").step == 12
    assert same_bits(final_weights(tmp_path / "run"), final_weights(finished.run_dir))


def test_a_damaged_checkpoint_is_passed_over_and_the_run_still_ends_with_the_same_bits(finished, corpus_dir, tmp_path):
    run_dir = tmp_path / "run"
    pretrain(tiny_config(corpus_dir), run_dir, watch=StopAt(11))
    newest = sorted((run_dir / "checkpoints").glob("step-*"))[-1] / "model.safetensors"
    newest.write_bytes(newest.read_bytes()[:100])
    assert pretrain(tiny_config(corpus_dir), run_dir).step == 12
    assert same_bits(final_weights(run_dir), final_weights(finished.run_dir))


def test_the_micro_batch_size_changes_the_weights_by_rounding_only(store, tmp_path):
    # Without dropout, whose draws depend on the cuts.
    still = {"model__hidden_dropout_prob": 0.0, "model__attention_probs_dropout_prob": 0.0, "train__max_steps": 3}
    for size in (3, 8):
        pretrain(tiny_config(store.path, train__micro_batch_size=size, **still), tmp_path / str(size))
    first, second = final_weights(tmp_path / "3"), final_weights(tmp_path / "8")
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


def test_a_finished_run_run_again_trains_no_further(finished, corpus_dir):
    before = final_weights(finished.run_dir)
    again = pretrain(tiny_config(corpus_dir), finished.run_dir)
    assert again.step == 12
    assert same_bits(before, final_weights(finished.run_dir))
    assert again.results["heldout"] == finished.results["heldout"]


def test_a_prepared_store_serves_as_corpus(store, tmp_path):
    summary = pretrain(tiny_config(store.path, train__max_steps=2), tmp_path / "run")
    assert summary.step == 2
    assert not (tmp_path / "run" / "store").exists()


def test_epochs_become_steps(store, tmp_path):
    config = tiny_config(store.path, train__max_steps=None, train__epochs=1.0, train__phases=[{"max_seq_length": 32}])
    summary = pretrain(config, tmp_path / "run")
    from bertkit.workflows.assemble import build_loader

    assert summary.step == round(build_loader(config, store, phase=0).num_instances() / 8)


def test_training_by_the_clock_ends_by_the_clock(store, tmp_path):
    config = tiny_config(store.path, train__max_steps=None, train__max_minutes=0.02)
    summary = pretrain(config, tmp_path / "run")
    assert 1.2 <= summary.elapsed_s < 30
    assert summary.step > 0


@pytest.mark.parametrize("next_sentence", ["off", "sop"])
def test_other_objectives_train_and_export(store, tmp_path, next_sentence):
    summary = pretrain(
        tiny_config(store.path, pairs__next_sentence=next_sentence, train__max_steps=2), tmp_path / "run"
    )
    assert ("nsp_accuracy" in summary.results["heldout"]) == (next_sentence == "sop")
    architecture = json.loads((summary.export_dir / "config.json").read_text())["architectures"]
    assert architecture == ["BertForMaskedLM" if next_sentence == "off" else "BertForPreTraining"]


def test_training_goes_on_from_any_bert(finished, corpus_dir, tmp_path):
    config = tiny_config(
        corpus_dir, train__init_from=str(finished.export_dir), train__max_steps=1, optim__learning_rate=1e-9
    )
    summary = pretrain(config, tmp_path / "run")
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert written["model"]["hidden_size"] == 32
    assert summary.results["heldout"]["mlm_loss"] == pytest.approx(finished.results["heldout"]["mlm_loss"], abs=1e-3)


def test_gradient_checkpointing_gives_the_same_weights_to_rounding(store, tmp_path):
    plain = pretrain(tiny_config(store.path, train__max_steps=3, model__hidden_dropout_prob=0.0), tmp_path / "plain")
    again = pretrain(
        tiny_config(store.path, train__max_steps=3, model__hidden_dropout_prob=0.0, train__gradient_checkpointing=True),
        tmp_path / "checkpointed",
    )
    first, second = final_weights(plain.run_dir), final_weights(again.run_dir)
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


def test_bf16_comes_near_fp32_and_keeps_its_weights_in_fp32(store, tmp_path):
    for precision in ("fp32", "bf16"):
        pretrain(tiny_config(store.path, train__max_steps=6, train__precision=precision), tmp_path / precision)
    exact, near = final_weights(tmp_path / "fp32"), final_weights(tmp_path / "bf16")
    assert {tensor.dtype for tensor in near.values()} == {torch.float32}
    assert not same_bits(exact, near)
    assert all(torch.allclose(exact[name], near[name], atol=0.05) for name in exact)


def test_a_second_phase_of_the_same_length_draws_other_pairs(store, tmp_path):
    phases = [{"max_seq_length": 32, "share": 0.5}, {"max_seq_length": 32, "share": 0.5}]
    pretrain(tiny_config(store.path, train__max_steps=4, train__phases=phases), tmp_path / "run")
    saved = json.loads((tmp_path / "run" / "checkpoints" / "step-0000004" / "checkpoint.json").read_text())
    assert (saved["phase"], saved["position"]["epoch"]) == (1, 1)


def test_the_model_learns_more_than_word_frequencies(store, tmp_path):
    config = tiny_config(
        store.path,
        train__max_steps=400,
        train__global_batch_size=32,
        train__micro_batch_size=32,
        train__phases=[{"max_seq_length": 64}],
        optim__learning_rate=5e-3,
        model__hidden_dropout_prob=0.0,
        model__attention_probs_dropout_prob=0.0,
    )
    scores = pretrain(config, tmp_path / "run").results["heldout"]
    assert scores["mlm_loss"] < scores["unigram_entropy"] - 0.4


def test_held_out_scores_during_training_are_logged(store, tmp_path):
    pretrain(tiny_config(store.path, train__max_steps=4, every__evaluate_steps=2), tmp_path / "run")
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "heldout_mlm_loss" in row] == [2, 4]


def test_the_folder_of_another_run_is_refused_and_the_difference_named(finished, corpus_dir):
    with pytest.raises(ConfigError, match=r"holds another run, which differs in optim.learning_rate: choose another"):
        pretrain(tiny_config(corpus_dir, optim__learning_rate=1.0), finished.run_dir)


def test_before_the_first_checkpoint_a_setting_may_still_be_mended_but_not_the_finished_store(corpus_dir, tmp_path):
    run_dir = tmp_path / "run"
    RunFolder(run_dir).claim(tiny_config(corpus_dir, train__seed=5))
    RunFolder(run_dir).claim(tiny_config(corpus_dir, data__tokenizer={"vocab_size": 90}))
    RunFolder(run_dir).store.mkdir()
    (RunFolder(run_dir).store / "manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match="differs in data.tokenizer.vocab_size"):
        RunFolder(run_dir).claim(tiny_config(corpus_dir))
    RunFolder(run_dir).claim(tiny_config(corpus_dir, data__tokenizer={"vocab_size": 90}, train__seed=6))


def test_a_folder_that_holds_something_else_is_refused(corpus_dir, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="exists and is not a run folder"):
        pretrain(tiny_config(corpus_dir), tmp_path)


def test_a_loss_that_is_not_finite_names_the_step_the_checkpoint_and_the_remedy(store, tmp_path, monkeypatch):
    from bertkit.workflows import assemble
    from bertkit.workflows import pretrain as workflow

    micro_batches = []

    def spoilt_at_step_7(model, batch):
        micro_batches.append(batch)
        terms = assemble.pretraining_terms(model, batch)
        if len(micro_batches) > 12:
            terms["mlm"] = type(terms["mlm"])(terms["mlm"].sum * float("nan"), terms["mlm"].count)
        return terms

    monkeypatch.setattr(workflow, "pretraining_terms", spoilt_at_step_7)
    with pytest.raises(
        Exception, match=r"step 7; the weights were not updated and the last good checkpoint is .*step-0000005"
    ) as caught:
        pretrain(tiny_config(store.path), tmp_path / "run")
    assert "lower optim.learning_rate" in str(caught.value)


def test_a_vocabulary_larger_than_the_models_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match=r"tokenizer has \d+ entries and model.vocab_size is 100"):
        pretrain(tiny_config(store.path, model__vocab_size=100, data__tokenizer={"vocab_size": 90}), tmp_path / "run")


def test_one_document_is_refused_for_pairs_and_taken_without_them(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", documents=1, sentences=40)
    with pytest.raises(CorpusError, match="next_sentence"):
        pretrain(tiny_config(corpus), tmp_path / "run")
    summary = pretrain(tiny_config(corpus, pairs__next_sentence="off", train__max_steps=2), tmp_path / "run")
    assert summary.step == 2


def test_a_store_that_took_the_place_of_the_runs_own_is_refused(store, tmp_path):
    place, run_dir = tmp_path / "data", tmp_path / "run"
    shutil.copytree(store.path, place)
    pretrain(tiny_config(place, train__max_steps=2), run_dir)
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps(manifest | {"fingerprint": "another"}))
    for workflow in (evaluate, export):
        with pytest.raises(CheckpointError, match="is not the token store .* was trained on"):
            workflow(run_dir)
    with pytest.raises(CheckpointError, match="is not the token store"):
        pretrain(tiny_config(place, train__max_steps=2), run_dir)


def test_the_settings_of_a_prepared_store_are_what_config_yaml_says(store, tmp_path):
    pretrain(tiny_config(store.path, train__max_steps=1, data__heldout_share=0.3), tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["heldout_share"] == 0.1


def test_a_store_of_another_vocabulary_cannot_continue_a_model(finished, store, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", seed=3)
    other = tiny_config(corpus, train__max_steps=1, data__tokenizer={"vocab_size": 80})
    pretrain(other, tmp_path / "other")
    with pytest.raises(ConfigError, match="tokenised with another vocabulary than that of --from"):
        pretrain(tiny_config(tmp_path / "other" / "store", train__init_from=str(finished.export_dir)), tmp_path / "run")


def test_a_run_that_went_on_from_a_model_needs_that_model_no_more(finished, corpus_dir, tmp_path):
    initial = tmp_path / "initial"
    shutil.copytree(finished.export_dir, initial)
    config = tiny_config(corpus_dir, train__init_from=str(initial), train__max_steps=4)
    pretrain(config, tmp_path / "run", watch=StopAt(2))
    shutil.rmtree(initial)
    summary = pretrain(config, tmp_path / "run")
    assert summary.step == 4
    assert evaluate(tmp_path / "run") == summary.results


def test_weights_that_are_missing_are_found_before_anything_is_prepared(finished, corpus_dir, tmp_path):
    shutil.copytree(finished.export_dir, tmp_path / "initial")
    (tmp_path / "initial" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="cannot be opened"):
        pretrain(tiny_config(corpus_dir, train__init_from=str(tmp_path / "initial")), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_in_bf16_is_continued_in_float32(finished, corpus_dir, tmp_path):
    from transformers import BertForPreTraining

    BertForPreTraining.from_pretrained(finished.export_dir).bfloat16().save_pretrained(tmp_path / "initial")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(finished.export_dir / name, tmp_path / "initial" / name)
    summary = pretrain(
        tiny_config(corpus_dir, train__init_from=str(tmp_path / "initial"), train__max_steps=1), tmp_path / "run"
    )
    assert {tensor.dtype for tensor in final_weights(summary.run_dir).values()} == {torch.float32}


def test_heads_the_initial_model_lacks_are_named(finished, corpus_dir, tmp_path, caplog):
    from transformers import BertModel

    BertModel.from_pretrained(finished.export_dir).save_pretrained(tmp_path / "initial")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(finished.export_dir / name, tmp_path / "initial" / name)
    pretrain(tiny_config(corpus_dir, train__init_from=str(tmp_path / "initial"), train__max_steps=1), tmp_path / "run")
    assert "has no weights for mlm_head and nsp_head, which begin anew" in caplog.text


def test_a_corpus_too_small_to_hold_out_a_document_trains_and_exports_unscored(tmp_path, caplog):
    corpus = write_corpus(tmp_path / "corpus", documents=3)
    summary = pretrain(tiny_config(corpus, train__max_steps=2, every__evaluate_steps=1), tmp_path / "run")
    assert summary.results == {}
    assert (summary.export_dir / "model.safetensors").is_file()
    assert "will not be scored" in caplog.text
    with pytest.raises(CorpusError, match="no held-out documents"):
        evaluate(tmp_path / "run")


def test_a_tracker_that_is_not_installed_names_the_package(corpus_dir, tmp_path, monkeypatch):
    from bertkit.train import setup

    monkeypatch.setattr(setup, "is_installed", lambda name: False)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        pretrain(tiny_config(corpus_dir, every__trackers=["tensorboard"]), tmp_path / "run")


def test_tensorboard_gets_the_curves_when_asked(store, tmp_path):
    pretrain(tiny_config(store.path, train__max_steps=2, every__trackers=["tensorboard"]), tmp_path / "run")
    assert list((tmp_path / "run").rglob("events.out.tfevents*"))


def test_fp16_on_a_cpu_is_refused(store, tmp_path):
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        pretrain(tiny_config(store.path, train__precision="fp16"), tmp_path / "run")


def test_from_something_that_is_no_bert_is_refused(corpus_dir, tmp_path):
    with pytest.raises(
        ConfigError, match="no folder .*nothing, and no model on the Hub can be called so: give a BERT's"
    ):
        pretrain(tiny_config(corpus_dir, train__init_from=str(tmp_path / "nothing")), tmp_path / "run")


def test_without_a_run_or_a_checkpoint_the_errors_say_so(corpus_dir, tmp_path):
    with pytest.raises(CheckpointError, match="there is no run under"):
        newest_run(tmp_path)
    with pytest.raises(CheckpointError, match="is not a run folder: it has no config.yaml"):
        evaluate(tmp_path)
    RunFolder(tmp_path / "empty").claim(tiny_config(corpus_dir))
    for workflow in (evaluate, export):
        with pytest.raises(CheckpointError, match="has no checkpoint yet"):
            workflow(tmp_path / "empty")


def test_the_newest_run_is_the_one_written_to_last(corpus_dir, tmp_path):
    for name, age in (("old", 100), ("new", 50)):
        run = RunFolder(tmp_path / name)
        run.claim(tiny_config(corpus_dir))
        os.utime(run.config_file, (1_000_000 - age, 1_000_000 - age))
    assert newest_run(tmp_path).path.name == "new"


def test_an_export_that_differs_is_refused_and_leaves_nothing(finished, tmp_path, monkeypatch):
    from bertkit.workflows import export as workflow

    monkeypatch.setattr(workflow, "largest_difference", lambda *models: 0.5)
    with pytest.raises(CheckpointError, match="export was refused"):
        export(finished.run_dir, output_dir=tmp_path / "bert")
    assert list(tmp_path.iterdir()) == []
