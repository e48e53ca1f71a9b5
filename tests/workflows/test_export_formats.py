"""Every format of a run's export opens where it is meant to, and gives what the run gives."""

import ast
import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest
import torch
from safetensors.torch import load_file
from toy_exports import HEADS, finetuned_run, toy_exportable
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, BertForSequenceClassification
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.errors import CheckpointError
from bertkit.workflows import export as workflow
from bertkit.workflows import export_code, export_onnx
from bertkit.workflows.export import export
from bertkit.workflows.export_code import export_with_code, write_with_code
from bertkit.workflows.runs import RunFolder

ROWS = {"input_ids": torch.tensor([[7, 8, 9, 30, 40], [7, 20, 21, 0, 0]])}
ROWS["attention_mask"] = (ROWS["input_ids"] != 0).long()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finetuned_run("classification", tmp_path_factory.mktemp("classes"))


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    return finetuned_run("regression", tmp_path_factory.mktemp("number"))


def logits_of(folder):
    with torch.no_grad():
        return AutoModelForSequenceClassification.from_pretrained(folder)(**ROWS).logits


def test_weights_alone_are_two_files_with_stock_names_and_the_same_logits(run, tmp_path):
    folder = export(run.path, to="safetensors-only", output_dir=tmp_path / "weights")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert "bert.encoder.layer.0.attention.self.query.weight" in load_file(folder / "model.safetensors")
    assert type(AutoModelForSequenceClassification.from_pretrained(folder)) is BertForSequenceClassification
    torch.testing.assert_close(logits_of(folder), logits_of(run.export), rtol=0, atol=1e-6)


def test_a_copy_of_a_finished_export_has_its_files_and_no_strangers(run, tmp_path):
    own = RunFolder(shutil.copytree(run.path, tmp_path / "run"))
    (own.export / "notes.txt").write_text("mine", encoding="utf-8")
    folder = export(own.path, output_dir=tmp_path / "copy")
    assert {path.name for path in folder.iterdir()} == {path.name for path in own.export.iterdir()} - {"notes.txt"}
    assert (folder / "config.json").read_bytes() == (own.export / "config.json").read_bytes()


@pytest.mark.parametrize("to", ["safetensors-only", "bertkit"])
def test_a_format_has_a_folder_of_its_own_in_the_run_which_is_written_anew(run, to):
    for _ in range(2):
        assert export(run.path, to=to) == run.path / to
    assert (run.path / to / "config.json").is_file()
    assert not list(run.path.glob(".*.partial"))


OPENED_BY_ITS_OWN_CODE = """
    import sys, torch, transformers
    from pathlib import Path
    sys.modules["bertkit"] = None  # any import of bertkit fails
    for folder in Path(sys.argv[1]).iterdir():
        auto_class = getattr(transformers, f"AutoModelFor{folder.name}")
        model = auto_class.from_pretrained(folder, trust_remote_code=True).eval()
        base = transformers.AutoModel.from_pretrained(folder, trust_remote_code=True)
        words = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)("the cat").input_ids
        rows = torch.load(folder / "rows.pt", weights_only=True)
        with torch.no_grad():
            outputs = model(**rows).to_tuple()
        names = [type(each).__name__ for each in (model, base)]
        torch.save({"outputs": outputs, "names": names, "words": words}, folder / "outputs.pt")
"""


@pytest.fixture(scope="module")
def opened_by_their_own_code(tmp_path_factory):
    """By head: our model, the rows it is given, and what came of them where no bertkit can be imported."""
    folder, sources, rows = tmp_path_factory.mktemp("code"), {}, {}
    for head in HEADS:
        sources[head] = toy_exportable(head, tmp_path_factory.mktemp("source"))
        write_with_code(sources[head], folder / "exports" / head)
        rows[head] = {name: ids[:, None] for name, ids in ROWS.items()} if head == "MultipleChoice" else ROWS
        torch.save(rows[head], folder / "exports" / head / "rows.pt")
    environment = {**os.environ, "HF_MODULES_CACHE": str(folder / "modules"), "PYTHONPATH": ""}
    command = [sys.executable, "-c", textwrap.dedent(OPENED_BY_ITS_OWN_CODE), str(folder / "exports")]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    found = {head: torch.load(folder / "exports" / head / "outputs.pt", weights_only=True) for head in HEADS}
    return {head: (sources[head].model, rows[head], found[head]) for head in HEADS}


@pytest.mark.parametrize("head", HEADS)
def test_our_classes_open_by_the_code_beside_them_without_bertkit_and_give_the_same(head, opened_by_their_own_code):
    model, rows, found = opened_by_their_own_code[head]
    assert found["names"] == [f"BertKitFor{head}", "BertKitModel"]
    assert len(found["words"]) == 4
    with torch.no_grad():
        expected = model(**rows).to_tuple()
    for ours, theirs in zip(expected, found["outputs"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_the_code_that_travels_imports_nothing_of_bertkit_and_writes_weights_under_stock_names(run, tmp_path):
    folder = export_with_code(run, tmp_path / "code")
    modules = {path.stem for path in folder.glob("*.py")}
    assert {"modeling_bertkit", "configuration_bertkit", "convert", "attention"} <= modules
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] != "bertkit", path
                assert node.level == 0 or node.module in modules, path
    assert "bert.encoder.layer.0.attention.self.query.weight" in load_file(folder / "model.safetensors")
    mapped = json.loads((folder / "config.json").read_text(encoding="utf-8"))["auto_map"]
    assert mapped["AutoConfig"] == "configuration_bertkit.BertKitConfig"
    assert mapped["AutoModelForSequenceClassification"] == "modeling_heads.BertKitForSequenceClassification"


def test_exporting_the_code_leaves_the_model_as_it_was(tmp_path):
    source = toy_exportable("SequenceClassification", tmp_path)
    write_with_code(source, tmp_path / "code")
    assert not hasattr(source.model.config, "auto_map")
    source.model.save_pretrained(tmp_path / "plain")
    assert not list((tmp_path / "plain").glob("*.py"))


@pytest.mark.parametrize("to", ["bert", "safetensors-only", "onnx", "bertkit"])
def test_other_logits_are_refused_and_nothing_is_left(to, run, tmp_path, monkeypatch):
    def differs(*_):
        return 0.5

    monkeypatch.setattr(workflow, "largest_difference", differs)
    monkeypatch.setattr(export_code, "largest_difference", differs)
    monkeypatch.setattr(export_onnx, "_difference", differs)
    source = toy_exportable("SequenceClassification", tmp_path / "source")
    with (
        pytest.raises(CheckpointError, match=r"the export was refused: .* by 0\.5"),
        workflow._written(tmp_path / "out") as aside,
    ):
        workflow._WRITERS[to](source, aside)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "--int8"], "add --to onnx"),
        (["{run}", "--to", "bertkit", "--output-dir", "{used}"], "exists already"),
        (["{run}", "--to", "onnx", "--output-dir", "{used}/file"], "exists already"),
        (["{run}", "--to", "bertkit", "--output-dir", "{used}/file/x"], "cannot be written"),
        (["{run}", "--to", "bert", "--output-dir", "."], "exists already"),
        (["{lost}", "--to", "onnx"], "lost is a run without its config.yaml: put it back"),
        (["{suite}", "--to", "onnx"], "holds several runs: name one of the folders in it"),
        (["{unfinished}", "--to", "onnx"], "is not finished: run the same bertkit finetune command again"),
        (["{damaged}", "--to", "safetensors-only"], "is damaged"),
        (["{damaged}"], "does not open in transformers"),
        (["{damaged}", "--output-dir", "{used}/new"], "does not open in transformers"),
        (["{foreign}", "--output-dir", "{used}/new"], "does not open in transformers"),
        (["{foreign}", "--to", "bertkit"], "is damaged"),
        (["{run}/export", "--to", "onnx"], "is not a run folder"),
    ],
)
def test_what_cannot_be_exported_is_said_in_one_line(arguments, message, run, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    places = {name: tmp_path / name for name in ("used", "suite", "unfinished", "damaged", "foreign", "lost")}
    for name in ("used", "suite/seed-0"):
        (tmp_path / name).mkdir(parents=True)
    (places["used"] / "file").write_text("mine", encoding="utf-8")
    for name in ("config.yaml", "environment.json"):
        (places["suite"] / "seed-0" / name).touch()
    for name in ("unfinished", "damaged", "foreign", "lost"):
        shutil.copytree(run.path, places[name])
    (places["lost"] / "config.yaml").unlink()
    shutil.rmtree(places["unfinished"] / "export")
    (places["unfinished"] / "results.json").unlink()
    (places["damaged"] / "export/model.safetensors").write_bytes(b"123")
    (places["foreign"] / "export/config.json").write_text(
        '{"model_type": "bert", "architectures": ["Llama"]}', encoding="utf-8"
    )
    result = CliRunner().invoke(app, ["export", *(each.format(run=run.path, **places) for each in arguments)])
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert (places["used"] / "file").read_text(encoding="utf-8") == "mine"


def test_the_command_says_for_machines_what_it_wrote(run, tmp_path):
    result = CliRunner().invoke(
        app, ["export", str(run.path), "--to", "safetensors-only", "--output-dir", str(tmp_path / "x"), "--json"]
    )
    assert json.loads(result.stdout) == {
        "output_dir": str(tmp_path / "x"), "format": "safetensors-only", "quantization": None,
    }  # fmt: skip


def test_sentence_transformers_takes_the_mean_of_the_hidden_states_of_an_export_as_it_is(run, caplog):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = sentence_transformers.SentenceTransformer(str(run.export), device="cpu")
    texts = ["the cat sat on the mat", "a"]
    found = encoder.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    batch = AutoTokenizer.from_pretrained(run.export)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden_BSD = AutoModel.from_pretrained(run.export)(**batch).last_hidden_state
    mask_BS1 = batch["attention_mask"][..., None]
    torch.testing.assert_close(found, (hidden_BSD * mask_BS1).sum(1) / mask_BS1.sum(1), rtol=0, atol=1e-5)
    assert not [each for each in caplog.records if each.levelname == "WARNING" and "sentence" in each.name]


@pytest.mark.parametrize("kind", ["run", "regression"])
def test_a_cross_encoder_scores_with_the_numbers_of_the_model(kind, request):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = request.getfixturevalue(kind).export
    pairs = [("the cat", "a mat"), ("sat on", "the cat sat")]
    scorer = sentence_transformers.CrossEncoder(str(folder), device="cpu")
    found = scorer.predict(pairs, convert_to_tensor=True, show_progress_bar=False)
    batch = AutoTokenizer.from_pretrained(folder)(
        *map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = AutoModelForSequenceClassification.from_pretrained(folder)(**batch).logits
    torch.testing.assert_close(found.view(expected.shape), expected, rtol=0, atol=1e-5)
