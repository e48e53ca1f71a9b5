"""A model as ONNX: any number of rows of any length, its logits compared by onnxruntime before it is handed over.

Torch's own exporter writes it, since Hugging Face's optimum has none yet for transformers 5. The layout is optimum's:
`model.onnx` beside `config.json` and the tokenizer, so that its `ORTModelFor...` classes open the folder.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from transformers import PreTrainedModel

from bertkit.errors import ConfigError
from bertkit.installed import is_installed
from bertkit.model.convert import to_stock
from bertkit.workflows.exportable import largest_at_tokens, probe_inputs, require_same_logits
from bertkit.workflows.onnx_model import INPUTS, OnnxModel, output_names

MODEL_FILE: Final = "model.onnx"
WEIGHTS_FILE: Final = "model.onnx.data"
# Every onnxruntime since 1.14 (2023) reads it, and so do the converters to other formats.
OPSET: Final = 18
# What protobuf holds in one file; a larger model has its weights in a file of their own.
_MOST_BYTES: Final = 2_000_000_000
_TRACED: Final = (2, 8)
# Rows and lengths other than those that were traced; the last as long as the model reads, up to BERT's own length.
_PROBED: Final = ((1, 1), (1, 16), (3, 17), (2, 512))
_PACKAGES: Final = ("onnx", "onnxruntime", "onnxscript")


def require_onnx() -> None:
    """Make sure that what writes and runs ONNX is installed.

    Raises:
        ConfigError: it is not; names what to install.
    """
    missing = [name for name in _PACKAGES if not is_installed(name)]
    if missing:
        raise ConfigError(f"ONNX needs {', '.join(missing)}, not installed here: pip install {' '.join(missing)}")


def write_onnx(model: PreTrainedModel, folder: Path) -> None:
    """Writes `model.onnx` and `config.json` of a bertkit model; inputs `input_ids`, `attention_mask`, `token_type_ids`.

    Raises:
        CheckpointError: onnxruntime gets other logits from it, for other numbers and lengths of rows than were traced.
    """
    stock = to_stock(model).eval()
    # A left-to-right model is written without the keys and values that stock models hand on.
    stock.config.use_cache = False
    stock.config.architectures = [type(stock).__name__]
    stock.config.save_pretrained(folder)
    with _quiet():
        program: Any = torch.onnx.export(
            stock,
            kwargs=probe_inputs(model, _TRACED, choices=2),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=output_names(stock),
            dynamic_shapes=dict.fromkeys(INPUTS, _axes(stock)),
            verbose=False,
        )
    _drop_traces(program.model)
    num_bytes = sum(weight.numel() * weight.element_size() for weight in stock.parameters())
    program.save(folder / MODEL_FILE, external_data=num_bytes > _MOST_BYTES)
    runnable = OnnxModel.open(folder / MODEL_FILE)
    for shape in _PROBED:
        require_same_logits(_difference(model, runnable, shape))


def _axes(stock: PreTrainedModel) -> dict[int, str]:
    of_choices = type(stock).__name__.endswith("MultipleChoice")
    return dict(enumerate(("batch", "choices", "sequence") if of_choices else ("batch", "sequence")))


@torch.no_grad()
def _difference(model: PreTrainedModel, runnable: OnnxModel, shape: tuple[int, int]) -> float:
    inputs = probe_inputs(model, shape, choices=3)
    return largest_at_tokens(model.cpu()(**inputs).to_tuple(), runnable.run(inputs), inputs["attention_mask"])


def _drop_traces(model: Any) -> None:
    """Leaves out what the exporter notes of every node, which names the files of this machine."""
    for part in (model, model.graph, *model.graph.all_nodes(), *model.graph.initializers.values()):
        part.metadata_props.clear()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notes to itself, on operators of packages that are not there and axes that share a name."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
