"""bertkit's own classes as a folder that brings their code: `from_pretrained(..., trust_remote_code)` opens it."""

import json
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import cast

from safetensors import SafetensorError
from transformers.dynamic_module_utils import get_relative_import_files

from bertkit.errors import CheckpointError
from bertkit.model import AUTO_CLASSES, BertKitModel
from bertkit.model.families import FAMILIES, class_for
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
    own_config, family = model.config, model.config.model_type
    try:
        model.config = deepcopy(own_config)
        model.config.auto_map = {name: _place(found) for name, found in _classes(family).items()}
        model.save_pretrained(folder)
    finally:
        model.config = own_config
    source.save_tokenizer(folder)
    for path in code_files(family):
        shutil.copy(path, folder)
    require_same_logits(largest_difference(model, type(model).from_pretrained(folder)))


def code_files(*families: str) -> list[Path]:
    """The modules that travel with weights of our classes of these model types, or of all of them."""
    modules = {found.__module__ for family in families or FAMILIES for found in _classes(family).values()}
    return _with_imports(Path(str(sys.modules[module].__file__)) for module in modules)


def has_code(folder: Path) -> bool:
    """Whether an export is of our classes, with their code beside it; not where its config cannot be read."""
    return bool(_modules_named_in(folder))


def code_in(folder: Path) -> list[Path]:
    """The modules in an export that its config names, and those they import.

    Raises:
        FileNotFoundError: one of them is missing.
    """
    return _with_imports(folder / f"{module}.py" for module in _modules_named_in(folder))


def _classes(family: str) -> dict[str, type]:
    """By Auto class, ours of a model type; there is no biLM that fills masks."""
    found: dict[str, type] = {"AutoConfig": cast("type", class_for(family, BertKitModel).config_class)}
    for auto_class, ours, _ in AUTO_CLASSES:
        with suppress(ValueError):
            found[auto_class.__name__] = class_for(family, ours)
    return found


def _place(found: type) -> str:
    """The module in the folder and the class in it."""
    return f"{found.__module__.rpartition('.')[2]}.{found.__name__}"


def _modules_named_in(folder: Path) -> set[str]:
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))["auto_map"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
    modules = {str(value).partition(".")[0] for value in values}
    return {module for module in modules if module.isidentifier()}


def _with_imports(modules: Iterable[Path]) -> list[Path]:
    files: set[Path] = set()
    for path in modules:
        files |= {path, *map(Path, get_relative_import_files(path))}
    return sorted(files)
