"""An ONNX model in 8-bit integers, and what that costs: both models score what the run itself was scored on."""

import json
import logging
import math
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from bertkit.config.schema import PretrainConfig
from bertkit.errors import BertkitError, CheckpointError, refused_as
from bertkit.workflows.export_onnx import MODEL_FILE, WEIGHTS_FILE
from bertkit.workflows.onnx_model import OnnxModel
from bertkit.workflows.onnx_scores import HELDOUT, Scores, scorer_of
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.watch import Watcher

logger = logging.getLogger(__name__)

QUANTIZED_FILE: Final = "model_quantized.onnx"  # optimum's name
RECORD_FILE: Final = "quantization.json"
_METHOD: Final = "dynamic: weights int8 within 7 bits, a scale a column; activations uint8, a scale a tensor"
# Float models of torch and of onnxruntime agree far better; what is scored in bf16 does not.
_SAME: Final = 1e-4


def quantize(run: RunFolder, folder: Path, *, watch: Watcher, config: PretrainConfig | None = None) -> None:
    """Writes `model_quantized.onnx` beside the `model.onnx` in `folder`, and `quantization.json`: sizes and scores.

    Where the run's own scores are other than those of `model.onnx`, a note says how they came about. Where its
    evaluation data is gone, that says why nothing was measured, and so does a warning.
    `config`: the run's own where it is at hand; what is kept of it names no password.
    """
    watch.begin("quantising")
    _write_int8(folder)
    models: dict[str, dict[str, Any]] = {name: {"bytes": _size(folder, name)} for name in (MODEL_FILE, QUANTIZED_FILE)}
    record = {"method": _METHOD, "onnxruntime": version("onnxruntime"), "models": models}
    try:
        score, (split, figure) = scorer_of(run, watch, config=config)
    except BertkitError as error:
        logger.warning("what the integers cost in score is not measured: %s", error)
        # The folder may be published, and the error names places on this machine.
        record["not_measured"] = "the run's evaluation data is gone, or is not what it was"
    else:
        for name, known in models.items():
            watch.begin(f"scoring {name}")
            started_s = time.monotonic()
            known["scores"] = score(OnnxModel.open(folder / name))
            known["seconds"] = time.monotonic() - started_s
        before, after = (known["scores"][split][figure] for known in models.values())
        record["headline"] = {"split": split, "figure": figure, "change": after - before}
        if note := _why_other(run, models[MODEL_FILE]["scores"], split, figure):
            record["note"] = note
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def read_record(folder: Path) -> dict[str, Any]:
    """What `quantize` wrote down."""
    return dict(json.loads((folder / RECORD_FILE).read_text(encoding="utf-8")))


def _write_int8(folder: Path) -> None:
    from onnxruntime.quantization import QuantType, quant_pre_process, quantize_dynamic

    shaped = folder / ".shaped.onnx"
    is_large = (folder / WEIGHTS_FILE).exists()
    # Shapes alone are worked out here: onnxruntime optimises when it opens a model, for the machine it is on.
    quant_pre_process(
        folder / MODEL_FILE,
        shaped,
        skip_optimization=True,
        skip_symbolic_shape=True,
        save_as_external_data=is_large,
    )
    quantize_dynamic(
        shaped,
        folder / QUANTIZED_FILE,
        per_channel=True,
        # Seven bits: without VNNI, sums of full eight overflow, and another machine would score otherwise than this.
        reduce_range=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=is_large,
    )
    for path in folder.glob(f"{shaped.name}*"):
        path.unlink()


def _why_other(run: RunFolder, found: Scores, split: str, figure: str) -> str | None:
    """How the run itself was scored, where that gave other figures than were `found`; the bf16 of training rounds."""
    if not run.results_file.is_file():
        return None
    with refused_as(CheckpointError, f"{run.results_file} is damaged: run bertkit evaluate {run.path} again"):
        results = json.loads(run.results_file.read_text(encoding="utf-8"))
        own: Scores = results.get("scores") or {HELDOUT: results["heldout"]}
    beside = [(value, own.get(name, {}).get(of)) for name, scores in found.items() for of, value in scores.items()]
    if all(one is None or math.isclose(value, one, rel_tol=_SAME, abs_tol=_SAME) for value, one in beside):
        return None
    known = results.get("provenance") or {}
    devices = ", ".join(dict.fromkeys((known.get("hardware") or {}).get("devices", ())))
    how = f"in {known.get('precision', 'a precision that was not recorded')}{f' on {devices}' if devices else ''}"
    return f"The run itself was scored {how}: {split} {figure} {own[split][figure]:.4f}"


def _size(folder: Path, name: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"{name}*"))
