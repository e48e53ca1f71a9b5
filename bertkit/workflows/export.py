"""A trained model as a folder for others to open, its logits compared before it is handed over."""

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import transformers
from safetensors import SafetensorError
from transformers import GenerationConfig, PreTrainedModel

from bertkit.config.schema import PretrainConfig
from bertkit.data.tokenizer import load_tokenizer
from bertkit.errors import CheckpointError, ConfigError
from bertkit.model.convert import to_stock, why_not_stock
from bertkit.whole import written_whole
from bertkit.workflows.export_code import has_code, write_with_code
from bertkit.workflows.export_onnx import require_onnx, write_onnx
from bertkit.workflows.exportable import (
    Exportable,
    largest_difference,
    open_exportable,
    require_same_logits,
    run_to_export,
)
from bertkit.workflows.quantize import quantize
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.sound import exported_files, require_sound
from bertkit.workflows.watch import Unwatched, Watcher

logger = logging.getLogger(__name__)

ExportFormat = Literal["bert", "onnx", "safetensors-only", "bertkit"]
# Where each format lies in a run; that which a run ends with in `RUN/export`, whichever it is.
_OF_RUN: Final = (None, "bert")


def export(
    run_path: Path | None = None,
    *,
    to: ExportFormat | None = None,
    int8: bool = False,
    output_dir: Path | None = None,
    config: PretrainConfig | None = None,
    watch: Watcher | None = None,
) -> Path:
    """Writes the last good checkpoint of a run, or the best of a fine-tuning run, in a format; returns the folder.

    to: 'bert', which plain transformers opens; 'onnx'; 'safetensors-only', the weights and their config alone;
    'bertkit', our classes with their code; if left out 'bert', or 'bertkit' for a model that transformers has no class
    for. output_dir: RUN/export if left out, or RUN/FORMAT for a format that was asked for, other than 'bert'. int8:
    beside the ONNX model one of 8-bit integers, and what that costs in score. run_path: the newest run if left out.
    config: the run's own where it is at hand; what is kept of it names no password.

    Raises:
        CheckpointError: there is no checkpoint, `output_dir` holds something, or the logits of what was written differ.
        ConfigError: a package that the format needs is not installed, or no stock class gives the model's logits.
    """
    if int8 and to != "onnx":
        raise ConfigError(f"--int8 quantises ONNX, not {to or 'bert'}: add --to onnx, or leave it out")
    if to == "onnx":
        require_onnx()
    _require_free(output_dir)
    run = run_to_export(run_path)
    watch = watch or Unwatched()
    watch.begin(f"exporting{f' to {to}' if to else ''}")
    if run.is_finetuning() and (to is None or (to == "bert" and not has_code(run.export))):
        return _copy_finished(run, output_dir)
    folder = output_dir or (run.path / to if to and to not in _OF_RUN else run.export)
    source = open_exportable(run, config)
    if to not in (None, "bertkit") and (why := why_not_stock(source.model)):
        raise ConfigError(f"{run.path} cannot be exported to {to}, for {why}: take --to bertkit")
    with _written(folder) as aside:
        _WRITERS[to or _fitting(source.model)](source, aside)
        if int8:
            quantize(run, aside, config=config, watch=watch)
    return folder


def export_model(model: PreTrainedModel, tokenizer_path: Path, output_dir: Path, *, model_max_length: int) -> Path:
    """Writes `model` and its tokenizer, which cuts text to `model_max_length`, to `output_dir`, whole or not at all.

    As a stock BERT, or with its code where transformers has no class that gives its logits.

    Raises:
        CheckpointError: the folder cannot be written, or what was written gives other logits.
    """
    with _written(output_dir) as aside:
        _WRITERS[_fitting(model)](Exportable(model.eval(), tokenizer_path, model_max_length), aside)
    return output_dir


def _fitting(model: PreTrainedModel) -> ExportFormat:
    why = why_not_stock(model)
    if why is None:
        return "bert"
    logger.info("the export is of bertkit's own classes, with their code: %s", why)
    return "bertkit"


def _require_free(output_dir: Path | None) -> None:
    if output_dir is None or not output_dir.exists():
        return
    # The folder that one stands in cannot be replaced, be it empty.
    if output_dir.is_file() or any(output_dir.iterdir()) or output_dir.samefile(Path.cwd()):
        raise CheckpointError(f"{output_dir} exists already: choose another --output-dir, or remove it")


def _copy_finished(run: RunFolder, output_dir: Path | None) -> Path:
    require_sound(run)
    if output_dir is not None:
        with _written(output_dir) as aside:
            aside.mkdir(parents=True)
            for path in exported_files(run.export):
                shutil.copy(path, aside)
    return output_dir or run.export


@contextmanager
def _written(folder: Path) -> Iterator[Path]:
    """A place to write an export to, which takes `folder`'s name when the block ends well."""
    try:
        with written_whole(folder) as aside:
            yield aside
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the export {folder} cannot be written: {error}") from error


def _write_bert(source: Exportable, folder: Path) -> None:
    _write_weights(source, folder)
    source.save_tokenizer(folder)


def _write_weights(source: Exportable, folder: Path) -> None:
    stock = to_stock(source.model)
    if getattr(stock.config, "problem_type", None) == "regression":
        # sentence-transformers would otherwise press the one number through a sigmoid.
        stock.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    if stock.can_generate():
        vocabulary = load_tokenizer(source.tokenizer_path).vocabulary
        # A text begins with [CLS], as those it was trained on; should [SEP] come, which was no target, it is over.
        stock.generation_config = GenerationConfig(
            bos_token_id=vocabulary.cls_id, eos_token_id=vocabulary.sep_id, pad_token_id=vocabulary.pad_id
        )
    stock.save_pretrained(folder)
    opened = getattr(transformers, type(stock).__name__).from_pretrained(folder)
    require_same_logits(largest_difference(source.model, opened))


def _write_onnx(source: Exportable, folder: Path) -> None:
    folder.mkdir(parents=True)
    write_onnx(source.model, folder)
    source.save_tokenizer(folder)


_WRITERS: dict[ExportFormat, Callable[[Exportable, Path], None]] = {
    "bert": _write_bert,
    "onnx": _write_onnx,
    "safetensors-only": _write_weights,
    "bertkit": write_with_code,
}
