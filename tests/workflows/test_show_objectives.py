"""Cards, reports, health, servers and features of models that are trained otherwise than BERT."""

import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from toy_pages import page_of
from toy_server import ask, served
from toy_tasks import sentences
from transformers import AutoTokenizer, BertLMHeadModel
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.errors import ConfigError
from bertkit.model.layer_mix import LAYER_CHOICES, mix_layers
from bertkit.workflows.card import card
from bertkit.workflows.doctor import examine
from bertkit.workflows.embed import EmbedOptions, embed
from bertkit.workflows.explain import explain
from bertkit.workflows.exportable import open_exportable
from bertkit.workflows.finetuned import open_finetuned
from bertkit.workflows.health import HealthWatch, Reference, bands_of, findings
from bertkit.workflows.predict import predict
from bertkit.workflows.report.curves import Logged, pretraining_charts
from bertkit.workflows.report.guessed_words import guessed_words
from bertkit.workflows.report.history import History
from bertkit.workflows.report.subjects import read_subjects, title_of_pairs
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.serve.server import open_served

OTHERS = ("ltr", "ltr+nsp", "bilm")
runner = CliRunner()


def metadata(text):
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize(
    ("objective", "what", "tag", "figures"),
    [
        ("ltr", "A left-to-right BERT (causal attention, as OpenAI GPT) of 2 layers of 32", "text-generation", 3),
        ("ltr+nsp", "left-to-right language modelling and next sentence prediction", "feature-extraction", 4),
        ("bilm", "An ELMo-style biLM of 2 forward and 2 backward LSTM layers", "feature-extraction", 3),
    ],
)
def test_a_card_says_what_the_model_is_and_what_it_learned(objective, what, tag, figures, pretrained_run):
    text = card(pretrained_run(objective))
    assert what in text
    found = metadata(text)
    assert found["pipeline_tag"] == tag
    assert ("masked-lm" in found["tags"]) is False
    names = [line.split(" | ")[1] for line in text.splitlines() if line.startswith("| held-out |")]
    assert len(names) == figures
    assert names[:3] == ["LM loss", "Perplexity", "LM accuracy"]
    assert ("trust_remote_code=True" in text) == (objective != "ltr")


def test_a_card_of_a_fine_tuned_model_says_how_it_reads_and_what_was_trained(finetuned_run):
    assert "It reads from left to right: a token sees those before it only." in card(finetuned_run("ltr"))
    assert "Its encoder is an ELMo-style biLM" in card(finetuned_run("bilm", "tagging"))
    text = card(finetuned_run("features", "tagging"))
    assert ", frozen, under a BiLSTM of 2 layers of 8 that reads all its layers, by learned shares" in text
    assert "| the BiLSTM reads | layer 1 " in text
    assert "trust_remote_code=True" in text


RUNS_SNIPPETS = """
    import contextlib, io, json, sys
    sys.modules["bertkit"] = None  # any import of bertkit fails
    said = {}
    for name, code in json.load(sys.stdin).items():
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(code, {})
        said[name] = out.getvalue()
    print(json.dumps(said))
"""


def test_the_snippets_of_cards_run_as_they_are_printed_where_no_bertkit_is(pretrained_run, finetuned_run, tmp_path):
    runs = {each: pretrained_run(each) for each in OTHERS}
    for each in (("ltr", "classification"), ("bilm", "tagging"), ("ltr", "span_qa"), ("features", "classification")):
        runs[" ".join(each)] = finetuned_run(*each)
    snippets = {}
    for name, run in runs.items():
        code = card(run, repo_id="ann/x").split("```python\n")[1].split("```")[0]
        assert '"ann/x"' in code
        snippets[name] = code.replace("ann/x", (run / "export").as_posix())
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules"), "PYTHONPATH": ""}
    command = [sys.executable, "-c", textwrap.dedent(RUNS_SNIPPETS)]
    ran = subprocess.run(
        command, input=json.dumps(snippets), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout.splitlines()[-1])
    assert "generated_text" in said["ltr"]
    assert len(yaml.safe_load(said["ltr+nsp"])) == 5
    assert said["bilm"].startswith("3 layers of (1, ")
    assert "animal" in said["ltr classification"] or "nothing" in said["ltr classification"]
    assert all(said.values())


def test_a_report_of_several_objectives_keeps_their_losses_apart(pretrained_run, tmp_path):
    runs = [pretrained_run(each) for each in ("mlm+nsp", "ltr", "bilm")]
    page = page_of(*runs, output=tmp_path / "all.html")
    for title in ("Masked LM loss (nats)", "LM loss (nats)", "Pre-training, held-out text, words to come"):
        assert title in page.text
    of_masked, of_next = page.text.split("Pre-training, held-out text, words to come")
    assert "masked LM perplexity" in of_masked
    assert "masked LM perplexity" not in of_next
    assert "LM perplexity" in of_next
    assert "objective mlm+nsp ltr bilm" in page.text


def history(term, entropy):
    training = [
        {"step": n, "loss": 3.0, f"{term}_loss": 3.0, "tokens": 10 * n, "elapsed_s": 0.1 * n} for n in (1, 2, 3)
    ]
    return History(training, [{"step": 3, f"heldout_{term}_loss": 3.1, "heldout_unigram_entropy": entropy}], 0)


def test_a_curve_is_held_against_the_word_frequencies_of_its_own_objective():
    runs = [
        Logged("masked", history("mlm", 4.0)),
        Logged("left", history("lm", 5.0)),
        Logged("both", history("lm", 5.0)),
    ]
    charts = {chart.key: chart for chart in pretraining_charts(runs, pairs="next sentence")}
    names = {key: [series.name for series in chart.series] for key, chart in charts.items()}
    assert [name for name in names["mlm_loss"] if "left" in name or "both" in name] == []
    assert [name for name in names["lm_loss"] if "masked" in name] == []
    for key, level in (("mlm_loss", 4.0), ("lm_loss", 5.0)):
        (constant,) = [series for series in charts[key].series if series.name == "word frequencies alone"]
        assert set(np.asarray(constant.y)) == {level}


def test_next_words_have_the_probabilities_that_the_stock_model_gives_them(pretrained_run):
    run = RunFolder(pretrained_run("ltr"))
    guessed = guessed_words(run)
    assert guessed.direction == "left-to-right"
    model = BertLMHeadModel.from_pretrained(run.export).eval()
    tokenizer = AutoTokenizer.from_pretrained(run.export)
    words = guessed.sentences[0]
    pieces = [("##" if word.is_piece else "") + word.text for word in words]
    ids = [tokenizer.cls_token_id, *tokenizer.convert_tokens_to_ids(pieces)]
    with torch.no_grad():
        shares = model(torch.tensor([ids])).logits[0].softmax(-1)
    expected = [float(shares[place, ids[place + 1]]) for place in range(len(words))]
    assert [word.probability for word in words] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("objective", "section"),
    [("ltr", "Next words"), ("ltr+nsp", "Next words"), ("bilm", None), ("mlm+nsp", "Masked words")],
)
def test_a_report_shows_what_each_model_can_guess(objective, section, pretrained_run, tmp_path):
    text = page_of(pretrained_run(objective), output=tmp_path / "one.html").text
    assert {name for name in ("Next words", "Masked words") if name in text} == {section} - {None}
    assert "The model cannot be asked" not in text
    if objective != "mlm+nsp":
        assert "there are reference bands for runs that learn masked words only" in text
        assert "LM loss, held-out" in text


def row(step, loss=6.0, **others):
    return {"step": step, "tokens": step * 1800, "lm_loss": loss, "learning_rate": 1e-3, "tokens_per_s": 1e4, **others}


def told(rows):
    watch = HealthWatch(Reference(num_parameters=3_150_000, unigram_entropy=6.44))
    return [found for each in rows for found in watch.add(each)]


def test_words_to_come_are_held_against_no_band_of_masked_words():
    # A masked LM that good would be told to be too easy, and its pairs to be given away.
    assert told([row(step, 2.0, nsp_accuracy=1.0) for step in range(500, 4000, 50)]) == []


def test_what_is_sick_in_any_objective_is_told_of_every_one():
    (rising,) = told([row(step, 3.0 if step <= 600 else 4.0) for step in range(50, 1500, 50)])
    assert (rising.kind, "the LM loss has risen to 4.00 from 3.00" in rising.text) == ("diverging", True)
    rows = [{"step": step, "heldout_lm_loss": 3.0 + (step > 100) * step / 1000} for step in range(100, 700, 100)]
    (by_heart,) = told(rows)
    assert (by_heart.kind, "the held-out LM loss is" in by_heart.text) == ("overfitting", True)
    slow = [row(step, tokens_per_s=1e4 if step < 3000 else 1e3) for step in range(50, 4000, 50)]
    assert [found.kind for found in told(slow)] == ["slowed_down"]


@pytest.mark.parametrize("objective", OTHERS)
def test_a_run_on_disk_has_its_health_told_without_bands(objective, pretrained_run):
    run = RunFolder(pretrained_run(objective))
    assert bands_of(run) == {}
    assert findings(run) == []
    assert [each.status for each in examine(run.path) if each.name == str(run.path)] == ["ok"]


@pytest.mark.parametrize("objective", OTHERS)
def test_what_fills_no_masks_is_not_served_in_one_line(objective, pretrained_run):
    result = runner.invoke(app, ["serve", str(pretrained_run(objective)), "--port", "0"])
    assert result.exit_code == 2
    assert "which fills no masks: serve a run that was fine-tuned from it" in " ".join(result.stderr.split())
    assert "Traceback" not in result.output


@pytest.mark.parametrize("kind", [("ltr", "classification"), ("bilm", "tagging"), ("features", "tagging")])
def test_a_fine_tuned_model_is_served_with_what_predict_says(kind, finetuned_run, tmp_path):
    run = finetuned_run(*kind)
    text = " ".join(next(iter(sentences(1)))[0])
    predict(run, output=tmp_path / "out.jsonl", sentences=[text])
    (expected,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    with served(open_served(str(run))) as client:
        (found,) = ask(client, [text]).json()["outputs"]
    assert found["prediction"] == expected["prediction"]


@pytest.mark.parametrize("objective", OTHERS)
def test_features_are_the_hidden_states_of_the_runs_own_model(objective, pretrained_run, tmp_path):
    run = RunFolder(pretrained_run(objective))
    text = "The cat sees the dog near the river 3."
    (tmp_path / "in.csv").write_text(f"id,text\n1,{text}\n", encoding="utf-8")
    inputs = AutoTokenizer.from_pretrained(run.export)(text, return_tensors="pt")
    model = open_exportable(run).model
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states
    for layers in LAYER_CHOICES:
        if layers.endswith("last-4"):
            continue  # of two layers there are no four
        output = tmp_path / f"{layers}.parquet"
        embed(run.path, [tmp_path / "in.csv"], output=output, options=EmbedOptions(layers=layers))
        (found,) = pq.read_table(output)["embedding"].to_pylist()
        expected = mix_layers(states, layers)[0].mean(0)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_model_that_has_learned_how_much_of_each_layer_to_read_gives_that(finetuned_run, tmp_path):
    run = RunFolder(shutil.copytree(finetuned_run("features", "tagging"), tmp_path / "run"))
    tensors = load_file(run.export / "model.safetensors")
    # Two steps have hardly moved them.
    tensors["reader.mix.weights_K"] = torch.tensor([2.0, 0.0])
    tensors["reader.mix.scale"] = torch.full_like(tensors["reader.mix.scale"], 3.0)
    save_file(tensors, run.export / "model.safetensors", metadata={"format": "pt"})
    text = "The cat sees the dog near the river 3."
    (tmp_path / "in.csv").write_text(f"id,text\n1,{text}\n", encoding="utf-8")
    embed(run.path, [tmp_path / "in.csv"], output=tmp_path / "x.parquet", options=EmbedOptions(layers="weighted-all"))
    inputs = AutoTokenizer.from_pretrained(run.export)(text, return_tensors="pt")
    with torch.no_grad():
        states = open_exportable(run).model(**inputs, output_hidden_states=True).hidden_states
    share = float(torch.tensor(2.0).sigmoid())
    expected = 3 * (share * states[1] + (1 - share) * states[2])[0].mean(0)
    np.testing.assert_allclose(pq.read_table(tmp_path / "x.parquet")["embedding"].to_pylist()[0], expected, atol=1e-5)


def test_a_bilstm_that_cannot_be_is_one_line(finetuned_run, tmp_path):
    for damage in ({"size": 2_000_000_000}, {"num_layers": 0}, {"layers": "all"}, {"width": 3}):
        run = shutil.copytree(finetuned_run("features", "tagging"), tmp_path / next(iter(damage)))
        values = json.loads((run / "export/config.json").read_text())
        values["bilstm"] |= damage
        (run / "export/config.json").write_text(json.dumps(values))
        with pytest.raises(ConfigError, match="cannot be opened: give a BERT's folder, a run or a Hub id"):
            open_finetuned(str(run))


def test_the_first_token_of_a_left_to_right_model_is_no_feature_of_its_text(pretrained_run, tmp_path):
    (tmp_path / "in.csv").write_text("id,text\n1,the cat\n", encoding="utf-8")
    options = EmbedOptions(pooling="cls")
    with pytest.raises(ConfigError, match="read from left to right, has seen no other: give mean or max"):
        embed(pretrained_run("ltr"), [tmp_path / "in.csv"], output=tmp_path / "x.parquet", options=options)


@pytest.mark.parametrize(
    ("objective", "direction"), [("ltr", "left-to-right"), ("ltr+nsp", "left-to-right"), ("bilm", "bilm")]
)
def test_nothing_is_masked_where_a_run_masks_nothing(objective, direction, pretrained_run):
    found = explain("the cat sees the dog", source=str(pretrained_run(objective)))
    assert (found.direction, found.mlm_probability) == (direction, None)
    assert {token.masked_as for token in found.tokens} == {None}
    result = runner.invoke(app, ["explain", "the cat", "--from", str(pretrained_run(objective))])
    assert "none is masked" in result.stdout
    assert ("position embedding" in result.stdout) == (objective != "bilm")


@pytest.mark.parametrize(
    ("objectives", "title"),
    [
        (["ltr+sop"], "Sentence order accuracy"),
        (["ltr+nsp"], "Next sentence accuracy"),
        (["ltr+sop", "ltr+nsp"], "Sentence order or next sentence accuracy"),
    ],
)
def test_a_report_calls_the_order_of_sentences_by_its_name(objectives, title, pretrained_run):
    subjects = read_subjects([pretrained_run(objective) for objective in objectives])
    logged = [Logged(each.name, each.history) for each in subjects]
    assert title in {chart.title for chart in pretraining_charts(logged, pairs=title_of_pairs(subjects))}
