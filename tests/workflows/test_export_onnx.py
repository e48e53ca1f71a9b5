"""ONNX: the logits of every head, for any number of rows of any length; nothing of this machine in the file."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from toy_encoder import PIECES
from toy_exports import HEADS, toy_exportable
from transformers import AutoTokenizer

from bertkit.data.collate import pack_rows
from bertkit.errors import CheckpointError, ConfigError
from bertkit.model import BertKitForPreTraining
from bertkit.model.convert import to_stock
from bertkit.workflows import export_onnx, exportable, onnx_model
from bertkit.workflows.export_onnx import OPSET, require_onnx, write_onnx
from bertkit.workflows.onnx_model import OnnxModel

NAMES = {
    "PreTraining": ["logits", "seq_relationship_logits"],
    "QuestionAnswering": ["start_logits", "end_logits"],
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """By head, its model and the folder it was written to; each is written once."""
    written = {}

    def of(head):
        if head not in written:
            folder = tmp_path_factory.mktemp(head)
            source = toy_exportable(head, folder)
            write_onnx(source.model, folder)
            source.save_tokenizer(folder)
            written[head] = source.model, folder
        return written[head]

    return of


def rows_of(shape, *, choices=None):
    """Random ids in which every row but the first has padding."""
    generator = torch.Generator().manual_seed(7)
    shape = shape if choices is None else (shape[0], choices, shape[1])
    ids = torch.randint(5, len(PIECES), shape, generator=generator)
    mask = torch.ones_like(ids)
    mask[1:, ..., shape[-1] - shape[-1] // 3 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": (ids % 2)}


@pytest.mark.parametrize("head", HEADS)
def test_onnxruntime_alone_gives_the_logits_of_stock_transformers_for_any_rows(exported, head):
    model, folder = exported(head)
    stock = to_stock(model).eval()
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [each.name for each in session.get_outputs()] == NAMES.get(head, ["logits"])
    for shape, choices in (((1, 1), 2), ((1, 5), 4), ((4, 33), 3), ((2, 64), 1)):
        inputs = rows_of(shape, choices=choices if head == "MultipleChoice" else None)
        with torch.no_grad():
            expected = stock(**inputs).to_tuple()
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        real = inputs["attention_mask"].bool()
        for ours, theirs in zip(map(torch.from_numpy, found), expected, strict=True):
            is_of_tokens = ours.shape[:2] == real.shape
            torch.testing.assert_close(
                *((ours[real], theirs[real]) if is_of_tokens else (ours, theirs)), rtol=0, atol=1e-4
            )


def test_the_folder_is_what_optimum_and_a_tokenizer_open(exported):
    _, folder = exported("SequenceClassification")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["model_type"], config["architectures"]) == ("bert", ["BertForSequenceClassification"])
    assert AutoTokenizer.from_pretrained(folder).model_max_length == 64
    graph = onnx.load(folder / "model.onnx")
    onnx.checker.check_model(graph)
    assert [each.version for each in graph.opset_import if not each.domain] == [OPSET]


def test_the_file_tells_nothing_of_the_machine_and_names_weights_as_stock_bert_does(exported):
    model, folder = exported("SequenceClassification")
    content = (folder / "model.onnx").read_bytes()
    assert b"stack_trace" not in content
    assert b"site-packages" not in content
    names = {each.name for each in onnx.load(folder / "model.onnx").graph.initializer}
    assert "bert.embeddings.word_embeddings.weight" in names
    assert len(content) < 1.5 * sum(weight.numel() * 4 for weight in model.parameters()) + 50_000


@pytest.mark.parametrize("head", ["SequenceClassification", "TokenClassification", "QuestionAnswering"])
def test_in_the_place_of_a_bertkit_model_it_takes_and_gives_packed_tokens(exported, head):
    model, folder = exported(head)
    lengths = [5, 2, 9, 9, 1]
    draw = np.random.default_rng(0)
    batch = pack_rows([draw.integers(5, 60, n) for n in lengths], [draw.integers(0, 2, n) for n in lengths])
    with torch.no_grad():
        expected, found = model(**batch), OnnxModel.open(folder / "model.onnx")(**batch)
    for name in NAMES.get(head, ["logits"]):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 2 * 9 * len(PIECES), 1 << 20])
def test_words_at_masked_positions_are_the_same_however_many_rows_fit_in_memory(exported, monkeypatch, at_once):
    monkeypatch.setattr(onnx_model, "_OUTPUT_AT_ONCE", at_once)
    model, folder = exported("PreTraining")
    assert isinstance(model, BertKitForPreTraining)
    draw = np.random.default_rng(0)
    batch = pack_rows([draw.integers(5, 60, n) for n in (5, 2, 9)], [np.zeros(n, np.int64) for n in (5, 2, 9)])
    batch["masked_positions"] = torch.tensor([1, 3, 8, 15])
    with torch.no_grad():
        expected, found = model(**batch), OnnxModel.open(folder / "model.onnx")(**batch)
    assert found["logits"].shape == (4, len(PIECES))
    torch.testing.assert_close(found["logits"], expected.prediction_logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(found["seq_relationship_logits"], expected.seq_relationship_logits, rtol=0, atol=1e-4)


def test_a_model_of_more_than_protobuf_holds_has_its_weights_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr(export_onnx, "_MOST_BYTES", 1000)
    write_onnx(toy_exportable("SequenceClassification", tmp_path).model, tmp_path)
    assert (tmp_path / "model.onnx.data").stat().st_size > (tmp_path / "model.onnx").stat().st_size / 4


def test_a_graph_of_other_weights_is_refused(tmp_path, monkeypatch):
    def slightly_wrong(model):
        stock = to_stock(model)
        with torch.no_grad():
            stock.bert.encoder.layer[1].output.dense.bias[3] += 0.01
        return stock

    monkeypatch.setattr(export_onnx, "to_stock", slightly_wrong)
    with pytest.raises(CheckpointError, match="the export was refused"):
        write_onnx(toy_exportable("SequenceClassification", tmp_path).model, tmp_path)


@pytest.mark.parametrize("difference", [1.0, float("nan")])
def test_other_logits_are_refused(difference):
    with pytest.raises(CheckpointError, match="the export was refused"):
        exportable.require_same_logits(difference)


def test_not_a_number_is_found_wherever_it_stands():
    mask = torch.ones(2, 3)
    good, bad = torch.zeros(2, 4), torch.full((2, 4), float("nan"))
    assert np.isnan(exportable.largest_at_tokens((bad, good), (good, good), mask))
    assert np.isnan(exportable.largest_at_tokens((good, good), (good, bad), mask))


def test_a_missing_package_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setattr(export_onnx, "is_installed", lambda name: name != "onnxscript")
    with pytest.raises(ConfigError, match=r"needs onnxscript, .*pip install onnxscript"):
        require_onnx()
