"""What every export format is made of, and the comparison that none of them leaves without."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

import bertkit.model
from bertkit.config.schema import PretrainConfig
from bertkit.data.tokenizer import load_tokenizer
from bertkit.errors import CheckpointError, refused_as
from bertkit.model.convert import own_class_name
from bertkit.workflows.pinned import open_trained
from bertkit.workflows.runs import RunFolder, newest_run
from bertkit.workflows.several import require_one_run
from bertkit.workflows.source import require_sane

# Largest difference of a logit before and after; float32 sums in another order differ by about a tenth of it.
TOLERANCE = 1e-4
_PROBE_ROWS, _PROBE_LENGTH = 2, 32


@dataclass(frozen=True)
class Exportable:
    """The model of a run at its last good or its best checkpoint, its tokenizer, and how many tokens it reads."""

    model: PreTrainedModel
    tokenizer_path: Path
    model_max_length: int

    def save_tokenizer(self, folder: Path) -> None:
        """Writes the tokenizer, which cuts text to `model_max_length`."""
        tokenizer = load_tokenizer(self.tokenizer_path).pretrained
        tokenizer.model_max_length = self.model_max_length
        tokenizer.save_pretrained(folder)


def run_to_export(run_path: Path | None) -> RunFolder:
    """The run that is meant: the newest one where none is named.

    Raises:
        CheckpointError: there is none, or the folder holds several, or a file that a run is known by is missing.
    """
    run = newest_run() if run_path is None else RunFolder(run_path)
    require_one_run(run)
    return run


def open_exportable(run: RunFolder, config: PretrainConfig | None = None) -> Exportable:
    """What is to be exported of a run of either kind.

    `config`: the run's own where it is at hand; what is kept of it names no password.

    Raises:
        CheckpointError: there is no checkpoint, or the run is not finished.
    """
    if run.is_finetuning():
        return _open_finished(run)
    config, store, model, _ = open_trained(run, config)
    # Positions that never saw a token are no use to whoever opens the export.
    trained_length = max(phase.max_seq_length for phase in config.train.phases)
    longest = trained_length if config.train.init_from is None else model.config.max_position_embeddings
    return Exportable(model.eval(), store.tokenizer_path, longest)


def _open_finished(run: RunFolder) -> Exportable:
    run.require_model()
    with refused_as(CheckpointError, f"{run.export} is damaged, so {run.path} cannot be exported"):
        stored = AutoConfig.from_pretrained(run.export, trust_remote_code=False)
        require_sane(stored)
        model_class: Any = getattr(bertkit.model, own_class_name(stored.architectures[0]))
        model: PreTrainedModel = model_class.from_pretrained(run.export, dtype=torch.float32)
    return Exportable(model.eval(), run.export, model.config.max_position_embeddings)


def require_same_logits(difference: float) -> None:
    """Refuse what is about to be handed over where its logits are not the model's.

    Raises:
        CheckpointError: the largest difference of a logit exceeds `TOLERANCE`.
    """
    # Not a number is no small difference either.
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"the export was refused: its logits differ from the checkpoint's by {difference:.2g}, "
            "which is a bug in bertkit; please report it"
        )


@torch.no_grad()
def largest_difference(model: PreTrainedModel, other: PreTrainedModel) -> float:
    """The largest absolute difference between two models' outputs on one padded batch of random ids."""
    inputs = probe_inputs(model, (_PROBE_ROWS, _PROBE_LENGTH))
    ours, theirs = (_tensors(each.cpu()(**inputs)) for each in (model, other.eval()))
    return largest_at_tokens(ours, theirs, inputs["attention_mask"])


def _tensors(outputs: ModelOutput) -> list[Tensor]:
    """Without the cache of keys and values that a stock model keeps to go on from."""
    return [each for each in outputs.to_tuple() if isinstance(each, Tensor)]


def probe_inputs(model: PreTrainedModel, shape: tuple[int, int], *, choices: int = 1) -> dict[str, Tensor]:
    """Random rows of `shape`, no longer than the model reads; half of the last row is padding.

    A model of multiple choice gets `choices` such rows for every example.
    """
    is_of_choices = type(model).__name__.endswith("MultipleChoice")
    generator = torch.Generator().manual_seed(0)
    rows, length = shape[0] * (choices if is_of_choices else 1), min(shape[1], model.config.max_position_embeddings)
    input_ids_BS = torch.randint(model.config.vocab_size, (rows, length), generator=generator)
    attention_mask_BS = torch.ones_like(input_ids_BS)
    attention_mask_BS[-1, max(1, length // 2) :] = 0
    inputs = {
        "input_ids": input_ids_BS,
        "attention_mask": attention_mask_BS,
        "token_type_ids": torch.randint(model.config.type_vocab_size, input_ids_BS.shape, generator=generator),
    }
    if is_of_choices:
        return {name: rows_BS.view(shape[0], choices, length) for name, rows_BS in inputs.items()}
    return inputs


def largest_at_tokens(ours: Sequence[Tensor], theirs: Sequence[Tensor], attention_mask_BS: Tensor) -> float:
    """The largest absolute difference between outputs, those of padding left out; no number where one is none."""
    real_BS = attention_mask_BS.bool()
    differences = [
        ((a[real_BS] if a.shape[:2] == real_BS.shape else a) - (b[real_BS] if b.shape[:2] == real_BS.shape else b))
        for a, b in zip(ours, theirs, strict=True)
    ]
    return float(torch.stack([difference.abs().max() for difference in differences]).max())
