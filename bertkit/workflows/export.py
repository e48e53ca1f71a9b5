"""A trained model as a folder that plain transformers opens: stock `bert`, compared before it is handed over."""

import shutil
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedModel

from bertkit.config.schema import PretrainConfig
from bertkit.data.tokenizer import load_tokenizer
from bertkit.errors import CheckpointError
from bertkit.model.convert import to_stock
from bertkit.whole import written_whole
from bertkit.workflows.pinned import open_trained
from bertkit.workflows.runs import RunFolder, newest_run

# Largest difference of a logit before and after; float32 sums in another order differ by about a tenth of it.
TOLERANCE = 1e-4
_PROBE_ROWS, _PROBE_LENGTH = 2, 32


def export(
    run_path: Path | None = None, *, output_dir: Path | None = None, config: PretrainConfig | None = None
) -> Path:
    """Writes the last good checkpoint of a run (the newest run by default) as a stock `bert` folder; returns its path.

    `config`: the run's own where it is at hand; what is kept of it names no password.

    Raises:
        CheckpointError: there is no checkpoint, `output_dir` holds something, or the stock model's logits differ.
    """
    if output_dir is not None and output_dir.exists() and (output_dir.is_file() or any(output_dir.iterdir())):
        raise CheckpointError(f"{output_dir} exists already: choose another --output-dir, or remove it")
    run = newest_run() if run_path is None else RunFolder(run_path)
    if run.is_finetuning():
        return _copy_finished(run, output_dir)
    config, store, model, _ = open_trained(run, config)
    # Positions that never saw a token are no use to whoever opens the export.
    trained_length = max(phase.max_seq_length for phase in config.train.phases)
    longest = trained_length if config.train.init_from is None else model.config.max_position_embeddings
    return export_model(model, store.tokenizer_path, output_dir or run.export, model_max_length=longest)


def _copy_finished(run: RunFolder, output_dir: Path | None) -> Path:
    """A fine-tuning run was exported when it ended; its best checkpoint is nowhere else."""
    if not run.export.is_dir():
        raise CheckpointError(f"{run.path} is not finished: run the same bertkit finetune command again")
    if output_dir is not None:
        try:
            with written_whole(output_dir) as aside:
                shutil.copytree(run.export, aside)
        except OSError as error:
            raise CheckpointError(f"the export {output_dir} cannot be written: {error}") from error
    return output_dir or run.export


def export_model(model: PreTrainedModel, tokenizer_path: Path, output_dir: Path, *, model_max_length: int) -> Path:
    """Writes `model` and its tokenizer, which cuts text to `model_max_length`, to `output_dir`, whole or not at all.

    Raises:
        CheckpointError: the folder cannot be written, or stock transformers opens it and gets other logits.
    """
    model = model.eval()
    try:
        with written_whole(output_dir) as aside:
            stock = to_stock(model)
            stock.save_pretrained(aside)
            tokenizer = load_tokenizer(tokenizer_path).pretrained
            tokenizer.model_max_length = model_max_length
            tokenizer.save_pretrained(aside)
            opened = getattr(transformers, type(stock).__name__).from_pretrained(aside)
            difference = largest_difference(model, opened)
            if difference > TOLERANCE:
                raise CheckpointError(
                    f"the export was refused: its logits differ from the checkpoint's by {difference:.2g}, "
                    "which is a bug in bertkit; please report it"
                )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"the export {output_dir} cannot be written: {error}") from error
    return output_dir


@torch.no_grad()
def largest_difference(model: PreTrainedModel, other: PreTrainedModel) -> float:
    """The largest absolute difference between two models' outputs on one padded batch of random ids."""
    generator = torch.Generator().manual_seed(0)
    vocab_size, length = model.config.vocab_size, min(_PROBE_LENGTH, model.config.max_position_embeddings)
    input_ids_BS = torch.randint(vocab_size, (_PROBE_ROWS, length), generator=generator)
    attention_mask_BS = torch.ones_like(input_ids_BS)
    attention_mask_BS[1, length // 2 :] = 0
    inputs = {
        "input_ids": input_ids_BS,
        "attention_mask": attention_mask_BS,
        "token_type_ids": torch.randint(model.config.type_vocab_size, input_ids_BS.shape, generator=generator),
    }
    if type(model).__name__.endswith("MultipleChoice"):
        # Its rows come by example and choice.
        inputs = {name: rows_BS[:, None] for name, rows_BS in inputs.items()}
    ours, theirs = model.cpu()(**inputs).to_tuple(), other.cpu().eval()(**inputs).to_tuple()
    real_BS = attention_mask_BS.bool()
    differences = [
        ((a[real_BS] if a.shape[:2] == real_BS.shape else a) - (b[real_BS] if b.shape[:2] == real_BS.shape else b))
        for a, b in zip(ours, theirs, strict=True)
    ]
    return max(float(difference.abs().max()) for difference in differences)
