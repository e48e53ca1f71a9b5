"""An export that is the run's model: opened whole, in plain transformers where it can be, and compared by logits."""

from pathlib import Path
from typing import Any, Final

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

import bertkit.model
from bertkit.config.schema import PretrainConfig
from bertkit.errors import CheckpointError, refused_as
from bertkit.model.convert import own_class_name
from bertkit.train.checkpoint import latest_checkpoint, load_weights
from bertkit.workflows.export_code import code_in, has_code
from bertkit.workflows.exportable import largest_difference, require_same_logits
from bertkit.workflows.pinned import build_pinned_model
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.source import require_sane

# What belongs to an export; whatever else somebody has put there stays where it is.
MODEL_FILES: Final = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
)


def require_sound(run: RunFolder) -> None:
    """Make sure that a run's export opens, whole, and gives the logits of the run's model.

    It opens in plain transformers or, where it is of our classes, in these; their code must lie beside them.

    Raises:
        CheckpointError: it does not.
    """
    remedy = f"remove it and run bertkit export {run.path} again"
    if run.is_finetuning():
        run.require_model()
        remedy = f"put a good copy in its place, or remove it and {run.results_file} and run the same command again"
    elif not run.export.is_dir():
        raise CheckpointError(f"{run.path} has no export: run bertkit export {run.path} again")
    with refused_as(CheckpointError, f"{run.export} does not open in transformers: {remedy}"):
        stored = AutoConfig.from_pretrained(run.export, local_files_only=True, trust_remote_code=False)
        require_sane(stored)
        architecture = stored.architectures[0]
        AutoTokenizer.from_pretrained(run.export, local_files_only=True, trust_remote_code=False)
        library: Any = bertkit.model if has_code(run.export) else transformers
        exported = _opened(getattr(library, architecture), run.export)
        exported_files(run.export)
        ours = _model_of(run, architecture)
    require_same_logits(largest_difference(ours, exported))


def exported_files(folder: Path) -> list[Path]:
    """The files of an export, and the code of its classes where it is of ours, by name.

    Raises FileNotFoundError where some of that code is missing.
    """
    return sorted({*model_files(folder), *code_in(folder)})


def _opened(model_class: Any, folder: Path) -> PreTrainedModel:
    loaded: Any = model_class.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    model: PreTrainedModel = loaded[0].eval()
    found = loaded[1]
    if found["missing_keys"]:
        raise CheckpointError(f"{folder} lacks weights, such as {sorted(found['missing_keys'])[0]}: export it again")
    return model


def model_files(folder: Path) -> list[Path]:
    """The files of an export but for code, by name."""
    return sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file()})


def _model_of(run: RunFolder, architecture: str) -> PreTrainedModel:
    """What the export must equal: the last checkpoint, or, where there is none any more, itself in our classes."""
    checkpoint = None if run.is_finetuning() else latest_checkpoint(run.checkpoints)
    if checkpoint is None:
        return _opened(getattr(bertkit.model, own_class_name(architecture)), run.export)
    model: PreTrainedModel = build_pinned_model(run.read_config(PretrainConfig), run).eval()
    load_weights(checkpoint, model)
    return model
