"""A trained model as a folder for others to open, its logits compared before it is handed over."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import transformers
from safetensors import SafetensorError
from transformers import PreTrainedModel

from bertkit.config.schema import PretrainConfig
from bertkit.errors import CheckpointError, ConfigError
from bertkit.model.convert import to_stock
from bertkit.whole import written_whole
from bertkit.workflows.export_code import write_with_code
from bertkit.workflows.export_onnx import require_onnx, write_onnx
from bertkit.workflows.exportable import (
    Exportable,
    largest_difference,
    open_exportable,
    require_finished,
    require_same_logits,
    run_to_export,
)
from bertkit.workflows.quantize import quantize
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.sound import model_files, require_sound
from bertkit.workflows.watch import Unwatched, Watcher

ExportFormat = Literal["bert", "onnx", "safetensors-only", "bertkit"]


def export(
    run_path: Path | None = None,
    *,
    to: ExportFormat = "bert",
    int8: bool = False,
    output_dir: Path | None = None,
    config: PretrainConfig | None = None,
    watch: Watcher | None = None,
) -> Path:
    """Writes the last good checkpoint of a run, or the best of a fine-tuning run, in a format; returns the folder.

    to: 'bert', which plain transformers opens (RUN/export if `output_dir` is left out); 'onnx'; 'safetensors-only', the
    weights and their config alone; 'bertkit', our classes with their code (all of them RUN/FORMAT). int8: beside the
    ONNX model one of 8-bit integers, and what that costs in score. run_path: the newest run if left out.
    config: the run's own where it is at hand; what is kept of it names no password.

    Raises:
        CheckpointError: there is no checkpoint, `output_dir` holds something, or the logits of what was written differ.
        ConfigError: a package that the format needs is not installed.
    """
    if int8 and to != "onnx":
        raise ConfigError(f"--int8 quantises ONNX, not {to}: add --to onnx, or leave it out")
    if to == "onnx":
        require_onnx()
    _require_free(output_dir)
    run = run_to_export(run_path)
    watch = watch or Unwatched()
    watch.begin(f"exporting to {to}")
    if to == "bert" and run.is_finetuning():
        return _copy_finished(run, output_dir)
    folder = output_dir or (run.export if to == "bert" else run.path / to)
    source = open_exportable(run, config)
    with _written(folder) as aside:
        _WRITERS[to](source, aside)
        if int8:
            quantize(run, aside, config=config, watch=watch)
    return folder


def export_model(model: PreTrainedModel, tokenizer_path: Path, output_dir: Path, *, model_max_length: int) -> Path:
    """Writes `model` and its tokenizer, which cuts text to `model_max_length`, to `output_dir`, whole or not at all.

    Raises:
        CheckpointError: the folder cannot be written, or stock transformers opens it and gets other logits.
    """
    with _written(output_dir) as aside:
        _write_bert(Exportable(model.eval(), tokenizer_path, model_max_length), aside)
    return output_dir


def _require_free(output_dir: Path | None) -> None:
    if output_dir is None or not output_dir.exists():
        return
    # The folder that one stands in cannot be replaced, be it empty.
    if output_dir.is_file() or any(output_dir.iterdir()) or output_dir.samefile(Path.cwd()):
        raise CheckpointError(f"{output_dir} exists already: choose another --output-dir, or remove it")


def _copy_finished(run: RunFolder, output_dir: Path | None) -> Path:
    require_finished(run)
    require_sound(run)
    if output_dir is not None:
        with _written(output_dir) as aside:
            aside.mkdir(parents=True)
            for path in model_files(run.export):
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
