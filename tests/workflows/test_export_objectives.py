"""What is trained otherwise than BERT leaves as the stock class that gives its logits, or with its own code."""

import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest
import torch
import transformers
from toy_tasks import write_examples
from transformers import AutoModelForCausalLM, AutoTokenizer, BertForTokenClassification, BertLMHeadModel
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.errors import CheckpointError
from bertkit.workflows.export import export
from bertkit.workflows.exportable import open_exportable
from bertkit.workflows.finetuned import open_finetuned
from bertkit.workflows.predict import predict
from bertkit.workflows.push import planned_push
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.sound import require_sound

ROWS = {"input_ids": torch.tensor([[2, 8, 9, 30, 40, 3], [2, 20, 21, 3, 0, 0]])}
ROWS["attention_mask"] = (ROWS["input_ids"] != 0).long()
OWN_PRETRAINED = ("ltr+nsp", "bilm")
OWN_FINETUNED = (
    ("ltr", "classification"),
    ("ltr", "multiple_choice"),
    ("bilm", "classification"),
    ("bilm", "tagging"),
    ("bilm", "span_qa"),
    ("features", "classification"),
    ("features", "tagging"),
)


def outputs_of(model, rows=ROWS):
    with torch.no_grad():
        return [each for each in model.eval()(**rows).to_tuple() if isinstance(each, torch.Tensor)]


def require_equal(ours, theirs):
    assert len(ours) == len(theirs) > 0
    real = ROWS["attention_mask"].bool()
    for a, b in zip(ours, theirs, strict=True):
        a, b = ((each[real] if each.shape[:2] == real.shape else each) for each in (a, b))
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_left_to_right_model_leaves_as_the_stock_class_that_generates(pretrained_run):
    run = RunFolder(pretrained_run("ltr"))
    stock = AutoModelForCausalLM.from_pretrained(run.export)
    assert type(stock) is BertLMHeadModel
    assert stock.config.is_decoder
    own = open_exportable(run).model
    assert type(own).__name__ == "BertKitForCausalLM"
    require_equal(outputs_of(own), outputs_of(stock)[:1])
    tokenizer = AutoTokenizer.from_pretrained(run.export)
    assert stock.generation_config.eos_token_id == tokenizer.sep_token_id
    ids = prompt = tokenizer("the cat", return_tensors="pt").input_ids[:, :-1]
    for _ in range(5):
        ids = torch.cat([ids, outputs_of(own, {"input_ids": ids})[0][:, -1:].argmax(-1)], dim=1)
    generated = stock.generate(prompt, max_new_tokens=5, do_sample=False, eos_token_id=None)
    assert generated.tolist() == ids.tolist()


def test_the_export_sees_no_future_and_that_of_a_masked_model_does(pretrained_run):
    changed = {**ROWS, "input_ids": ROWS["input_ids"].clone()}
    changed["input_ids"][0, 4] = 50
    for objective, sees_it in (("ltr", False), ("mlm+nsp", True)):
        model = transformers.AutoModelForPreTraining if sees_it else AutoModelForCausalLM
        before, after = (
            outputs_of(model.from_pretrained(pretrained_run(objective) / "export"), rows)[0][0, :4]
            for rows in (ROWS, changed)
        )
        assert (not torch.allclose(before, after, atol=1e-6)) == sees_it


@pytest.mark.parametrize(("problem", "head"), [("tagging", "TokenClassification"), ("span_qa", "QuestionAnswering")])
def test_heads_that_read_every_token_leave_a_left_to_right_model_as_stock_ones(problem, head, finetuned_run):
    run = RunFolder(finetuned_run("ltr", problem))
    stock = getattr(transformers, f"BertFor{head}").from_pretrained(run.export)
    assert stock.config.is_decoder
    assert type(open_exportable(run).model).__name__ == f"BertKitFor{head}"
    require_equal(outputs_of(open_exportable(run).model), outputs_of(stock))
    require_sound(run)


def test_a_head_put_on_a_stock_left_to_right_export_reads_the_last_token(pretrained_run, finetuned_run):
    assert json.loads((pretrained_run("ltr") / "export/config.json").read_text())["pooled_token"] == "last"
    model = open_finetuned(str(finetuned_run("ltr"))).predictor.model.eval()
    changed = {**ROWS, "input_ids": ROWS["input_ids"].clone()}
    changed["input_ids"][0, 4] = 50
    before, after = (outputs_of(model, rows)[0] for rows in (ROWS, changed))
    assert not torch.allclose(before[0], after[0], atol=1e-7)
    assert torch.allclose(before[1], after[1], atol=1e-7)


OPENED_BY_ITS_OWN_CODE = """
    import json, sys, torch, transformers
    from pathlib import Path
    sys.modules["bertkit"] = None  # any import of bertkit fails
    AUTO = {"ForPreTraining": "ForPreTraining", "ForSequenceClassification": "ForSequenceClassification",
            "ForTokenClassification": "ForTokenClassification", "ForQuestionAnswering": "ForQuestionAnswering",
            "ForMultipleChoice": "ForMultipleChoice"}
    for folder in map(Path, sys.argv[1:]):
        architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
        auto = getattr(transformers, "AutoModel" + architecture[architecture.index("For"):])
        model = auto.from_pretrained(folder, trust_remote_code=True).eval()
        base = transformers.AutoModel.from_pretrained(folder, trust_remote_code=True)
        words = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)("the cat").input_ids
        rows = torch.load(folder.parent / "rows.pt", weights_only=True)
        with torch.no_grad():
            outputs = [each for each in model(**rows).to_tuple() if isinstance(each, torch.Tensor)]
        names = [type(each).__name__ for each in (model, base)]
        torch.save({"outputs": outputs, "names": names, "words": words}, folder.parent / "outputs.pt")
"""


@pytest.fixture(scope="module")
def own_exports(pretrained_run, finetuned_run):
    """By what was trained, the run whose export is of our own classes."""
    runs = {each: pretrained_run(each) for each in OWN_PRETRAINED}
    return runs | {f"{objective} {problem}": finetuned_run(objective, problem) for objective, problem in OWN_FINETUNED}


@pytest.fixture(scope="module")
def opened_elsewhere(own_exports, tmp_path_factory):
    """By what was trained, the rows and what came of them where no bertkit can be imported."""
    folder, rows = tmp_path_factory.mktemp("elsewhere"), {}
    for name, run in own_exports.items():
        shutil.copytree(run / "export", folder / name.replace(" ", "-") / "export")
        is_choice = name.endswith("choice")
        rows[name] = {key: ids[:, None] for key, ids in ROWS.items()} if is_choice else ROWS
        torch.save(rows[name], folder / name.replace(" ", "-") / "rows.pt")
    places = {name: folder / name.replace(" ", "-") for name in own_exports}
    environment = {**os.environ, "HF_MODULES_CACHE": str(folder / "modules"), "PYTHONPATH": ""}
    command = [sys.executable, "-c", textwrap.dedent(OPENED_BY_ITS_OWN_CODE)]
    ran = subprocess.run(
        [*command, *(str(place / "export") for place in places.values())],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return {name: (rows[name], torch.load(place / "outputs.pt", weights_only=True)) for name, place in places.items()}


@pytest.mark.parametrize("name", [*OWN_PRETRAINED, *(f"{objective} {problem}" for objective, problem in OWN_FINETUNED)])
def test_what_has_no_stock_class_opens_by_the_code_beside_it_and_gives_the_same(name, own_exports, opened_elsewhere):
    rows, found = opened_elsewhere[name]
    own = open_exportable(RunFolder(own_exports[name])).model
    assert found["names"] == [type(own).__name__, "BiLMModel" if name.startswith("bilm") else "BertKitModel"]
    assert len(found["words"]) == 4
    ours = outputs_of(own, rows)
    assert len(ours) == len(found["outputs"]) > 0
    for a, b in zip(ours, found["outputs"], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["ltr+nsp", "bilm", "ltr classification", "features tagging"])
@pytest.mark.parametrize("to", ["bert", "onnx", "safetensors-only"])
def test_a_format_of_stock_classes_is_refused_in_a_line_that_names_the_other(name, to, own_exports, tmp_path):
    arguments = ["export", str(own_exports[name]), "--to", to, "--output-dir", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "take --to bertkit" in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_the_log_says_why_an_export_is_of_our_classes(pretrained_run, tmp_path, caplog):
    with caplog.at_level("INFO", logger="bertkit"):
        export(pretrained_run("ltr+nsp"), output_dir=tmp_path / "out")
    (line,) = [each for each in caplog.messages if "own classes" in each]
    assert "reads the last token" in line


def test_the_command_says_which_format_it_took(own_exports, pretrained_run, tmp_path):
    for run, said in ((own_exports["bilm"], "bertkit"), (pretrained_run("ltr"), "bert")):
        result = CliRunner().invoke(app, ["export", str(run), "--output-dir", str(tmp_path / said), "--json"])
        assert json.loads(result.stdout)["format"] == said


@pytest.mark.parametrize("name", ["bilm", "bilm tagging"])
def test_a_copy_of_an_own_export_has_its_code(name, own_exports, tmp_path):
    run = RunFolder(own_exports[name])
    folder = export(run.path, output_dir=tmp_path / "copy")
    assert {path.name for path in folder.iterdir()} == {path.name for path in run.export.iterdir()}
    assert (folder / "modeling_bilm.py").is_file()


def test_onnx_of_a_left_to_right_model_gives_its_logits(pretrained_run, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    run = RunFolder(pretrained_run("ltr"))
    folder = export(run.path, to="onnx", output_dir=tmp_path / "onnx")
    rows = {**ROWS, "token_type_ids": torch.zeros_like(ROWS["input_ids"])}
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(["logits"], {name: each.numpy() for name, each in rows.items()})
    require_equal(outputs_of(open_exportable(run).model, rows), [torch.from_numpy(found[0])])


def test_predictions_in_another_process_are_those_of_this_one(finetuned_run, tmp_path):
    run = finetuned_run("ltr", "classification")
    rows = write_examples(tmp_path / "rows", "classification", number=6, seed=3)
    predict(run, rows, output=tmp_path / "here.jsonl")
    command = [
        sys.executable,
        "-m",
        "bertkit",
        "predict",
        str(run),
        str(rows),
        "--output",
        str(tmp_path / "there.jsonl"),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    there = (tmp_path / "there.jsonl").read_text()
    assert len(there.splitlines()) == 6
    assert there == (tmp_path / "here.jsonl").read_text()


def test_what_goes_to_the_hub_brings_its_code_and_nothing_that_is_not_its_own(own_exports, tmp_path):
    run = RunFolder(shutil.copytree(own_exports["bilm tagging"], tmp_path / "run"))
    (run.export / "secret.py").write_text("1", encoding="utf-8")
    with planned_push(run.path, "ann/x") as plan:
        paths = {file.path for file in plan.files}
    assert {"modeling_bilm.py", "configuration_bilm.py", "recurrent.py", "config.json"} <= paths
    assert "secret.py" not in paths
    assert "trust_remote_code=True" in plan.card
    (run.export / "recurrent.py").unlink()
    with pytest.raises(CheckpointError, match="does not open in transformers"):
        require_sound(run)


def test_an_own_export_with_other_weights_than_the_runs_never_leaves(own_exports, tmp_path):
    from safetensors.torch import load_file, save_file

    run = RunFolder(shutil.copytree(own_exports["ltr+nsp"], tmp_path / "run"))
    require_sound(run)
    weights = run.export / "model.safetensors"
    tensors = load_file(weights)
    tensors["bert.embeddings.word_embeddings.weight"][:, 0] += 1
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="its logits differ"):
        require_sound(run)


def test_stock_tagging_keeps_no_word_of_a_bilstm_that_it_has_not(finetuned_run):
    values = json.loads((finetuned_run("ltr", "tagging") / "export/config.json").read_text())
    assert "bilstm" not in values
    assert BertForTokenClassification.from_pretrained(finetuned_run("ltr", "tagging") / "export").config.is_decoder
