"""8-bit integers: a quarter of the size, and what they cost measured on what the run itself was scored on."""

import json
import logging
import shutil
from pathlib import Path

import onnxruntime
import pytest
from toy_exports import finetuned_run
from typer.testing import CliRunner

from bertkit.cli import app
from bertkit.config.load import validate_config
from bertkit.config.schema import PretrainConfig
from bertkit.workflows.export import export
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.quantize import read_record
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.watch import Unwatched


class Noting(Unwatched):
    """Keeps what it is told."""

    def __init__(self):
        self.titles, self.done = [], []

    def begin(self, title):
        self.titles.append(title)

    def work(self, description, done, total):
        self.done.append((description, done, total))


def pretrained_run(corpus_dir, folder, *, heldout_share=0.1):
    """A run of four steps."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    values = {
        "corpus": str(corpus_dir),
        "model": {**sizes, "max_position_embeddings": 64},
        "data": {"num_workers": 1, "heldout_share": heldout_share, "tokenizer": {"vocab_size": 120}},
        "train": {
            "max_steps": 4, "global_batch_size": 8, "precision": "fp32",
            "phases": [{"max_seq_length": 32, "share": 1.0}],
        },
    }  # fmt: skip
    pretrain(validate_config(PretrainConfig, values, source="test"), folder)
    return RunFolder(folder)


@pytest.fixture(scope="module")
def pretrained(corpus_dir, tmp_path_factory):
    return pretrained_run(corpus_dir, tmp_path_factory.mktemp("runs") / "tiny")


def figures_of(run):
    """What the run itself came to, in the form of the record."""
    results = json.loads(run.results_file.read_text(encoding="utf-8"))
    scores = results.get("scores") or {"heldout": results["heldout"]}
    return {s: {name: value for name, value in f.items() if isinstance(value, int | float)} for s, f in scores.items()}


def assert_close(found, expected):
    assert found
    for split, figures in found.items():
        assert figures
        for name, value in figures.items():
            assert value == pytest.approx(expected[split][name], rel=1e-3, abs=1e-4), (split, name)


@pytest.mark.parametrize("problem", ["classification", "span_qa", "multiple_choice"])
def test_the_float_model_scores_as_the_run_did_and_the_integers_beside_it(problem, tmp_path):
    run, watch = finetuned_run(problem, tmp_path, steps=8), Noting()
    folder = export(run.path, to="onnx", int8=True, output_dir=tmp_path / "onnx", watch=watch)
    record = read_record(folder)
    before, after = record["models"]["model.onnx"], record["models"]["model_quantized.onnx"]
    assert_close(before["scores"], figures_of(run))
    assert before["scores"].keys() == after["scores"].keys()
    assert before["scores"]["heldout"]["num_examples"] == after["scores"]["heldout"]["num_examples"]
    split, figure = record["headline"]["split"], record["headline"]["figure"]
    assert json.loads(run.results_file.read_text(encoding="utf-8"))["headline"] == f"{split}_{figure}"
    assert record["headline"]["change"] == after["scores"][split][figure] - before["scores"][split][figure]
    assert "not_measured" not in record
    assert watch.titles == ["exporting to onnx", "quantising", "scoring model.onnx", "scoring model_quantized.onnx"]
    assert watch.done[-1] == ("scoring", 12, 12)


def test_where_the_run_scored_in_another_precision_a_note_says_so(pretrained, tmp_path):
    def exported(run, name):
        arguments = ["export", str(run), "--to", "onnx", "--int8", "--output-dir", str(tmp_path / name)]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.stdout, read_record(tmp_path / name)

    said, record = exported(pretrained.path, "same")
    assert "note" not in record
    assert "The run itself" not in said
    run = RunFolder(Path(shutil.copytree(pretrained.path, tmp_path / "run")))
    results = json.loads(run.results_file.read_text(encoding="utf-8"))
    results["heldout"]["mlm_loss"] = 4.5
    results["provenance"] |= {"precision": "bf16", "hardware": {"devices": ["NVIDIA H200"] * 2}}
    run.results_file.write_text(json.dumps(results), encoding="utf-8")
    said, record = exported(run.path, "other")
    assert record["note"] == "The run itself was scored in bf16 on NVIDIA H200: heldout mlm_loss 4.5000"
    assert record["note"] in said
    run.results_file.unlink()
    assert "note" not in exported(run.path, "unfinished")[1]


def test_a_pretrained_model_is_measured_by_its_held_out_text(pretrained, tmp_path):
    result = CliRunner().invoke(
        app, ["export", str(pretrained.path), "--to", "onnx", "--int8", "--output-dir", str(tmp_path / "onnx")]
    )
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == {
        "config.json", "model.onnx", "model_quantized.onnx", "quantization.json", "tokenizer.json",
        "tokenizer_config.json",
    }  # fmt: skip
    record = read_record(tmp_path / "onnx")
    sizes = [each["bytes"] for each in record["models"].values()]
    assert sizes == [(tmp_path / "onnx" / name).stat().st_size for name in record["models"]]
    assert_close(record["models"]["model.onnx"]["scores"], figures_of(pretrained))
    after = record["models"]["model_quantized.onnx"]["scores"]["heldout"]
    assert after["mlm_loss"] == pytest.approx(figures_of(pretrained)["heldout"]["mlm_loss"], rel=0.02)
    for words in ("float32", "int8", "size", "heldout mlm_loss", "heldout nsp_accuracy"):
        assert words in result.stdout
    assert result.stdout.rstrip().endswith(str(tmp_path / "onnx"))


def test_the_integers_are_integers(pretrained, tmp_path):
    import onnx

    folder = export(pretrained.path, to="onnx", int8=True, output_dir=tmp_path / "onnx")
    graph = onnx.load(folder / "model_quantized.onnx").graph
    kinds = [node.op_type for node in graph.node]
    # Six projections a layer, the transform and the vocabulary of one head, pooler and the other head.
    assert kinds.count("MatMulInteger") >= 2 * 6 + 2
    large = [each for each in graph.initializer if len(each.dims) == 2 and min(each.dims) > 8]
    assert large
    assert {each.data_type for each in large if "position" not in each.name} <= {
        onnx.TensorProto.INT8, onnx.TensorProto.UINT8,
    }  # fmt: skip
    session = onnxruntime.InferenceSession(folder / "model_quantized.onnx", providers=["CPUExecutionProvider"])
    assert [each.shape for each in session.get_inputs()] == [["batch", "sequence"]] * 3


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_without_the_examples_it_says_plainly_that_nothing_was_measured(what, tmp_path, caplog):
    run = finetuned_run("classification", tmp_path)
    examples = tmp_path / "train.jsonl"
    if what == "gone":
        examples.unlink()
    else:
        examples.write_text(examples.read_text(encoding="utf-8").replace("mat", "cat"), encoding="utf-8")
    with caplog.at_level(logging.WARNING, logger="bertkit"):
        folder = export(run.path, to="onnx", int8=True, output_dir=tmp_path / "onnx")
    assert "what the integers cost in score is not measured: " in caplog.text
    assert {"gone": "there is no file", "changed": "have changed since"}[what] in caplog.text
    record = read_record(folder)
    assert "scores" not in record["models"]["model.onnx"]
    assert record["not_measured"]
    assert str(tmp_path) not in json.dumps(record)


def test_without_held_out_text_nothing_is_measured_either(corpus_dir, tmp_path, caplog):
    run = pretrained_run(corpus_dir, tmp_path / "run", heldout_share=0.0)
    with caplog.at_level(logging.WARNING, logger="bertkit"):
        record = read_record(export(run.path, to="onnx", int8=True))
    assert "is not measured: the token store has no held-out documents" in caplog.text
    assert record["not_measured"]
