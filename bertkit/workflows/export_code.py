"""bertkit's own classes as a folder that brings their code: `from_pretrained(..., trust_remote_code)` opens it."""

import shutil
from copy import deepcopy
from pathlib import Path

from safetensors import SafetensorError
from transformers.dynamic_module_utils import get_relative_import_files

from bertkit.errors import CheckpointError
from bertkit.model import AUTO_CLASSES, BertKitConfig, modeling_bertkit
from bertkit.whole import written_whole
from bertkit.workflows.exportable import Exportable, largest_difference, open_exportable, require_same_logits
from bertkit.workflows.runs import RunFolder


def export_with_code(run: RunFolder, output_dir: Path) -> Path:
    """Writes a run as `write_with_code` does, whole or not at all, in the place of what was there; returns the folder.

    Raises:
        CheckpointError: there is no checkpoint, the folder cannot be written, or the logits of what was written differ.
    """
    source = open_exportable(run)
    try:
        with written_whole(output_dir) as aside:
            write_with_code(source, aside)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the export {output_dir} cannot be written: {error}") from error
    return output_dir


def write_with_code(source: Exportable, folder: Path) -> None:
    """Writes weights under stock names, config, tokenizer, and the modules that transformers' Auto classes read.

    Every Auto class finds one of ours, so that the encoder can be opened with another head than it was saved with.

    Raises:
        CheckpointError: what was written gives other logits.
    """
    model = source.model
    own_config = model.config
    try:
        model.config = deepcopy(own_config)
        model.config.auto_map = _auto_map()
        model.save_pretrained(folder)
    finally:
        model.config = own_config
    source.save_tokenizer(folder)
    for path in code_files():
        shutil.copy(path, folder)
    require_same_logits(largest_difference(model, type(model).from_pretrained(folder)))


def code_files() -> list[Path]:
    """The modules that travel with weights of our classes."""
    code = str(modeling_bertkit.__file__)
    return [Path(code), *map(Path, get_relative_import_files(code))]


def _auto_map() -> dict[str, str]:
    """By Auto class, the module in the folder and the class in it."""
    classes = {"AutoConfig": BertKitConfig, **{auto.__name__: ours for auto, ours, _ in AUTO_CLASSES}}
    return {auto: f"{ours.__module__.rpartition('.')[2]}.{ours.__name__}" for auto, ours in classes.items()}
