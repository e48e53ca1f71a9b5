"""Runs that objectives and BiLSTMs make other than BERT's: what begins with another run, and what stands above it."""

from pathlib import Path

from toy_tasks import toy_config, write_examples

from bertkit.workflows.finetune import finetune

BILSTM = {"layers": "weighted-all", "num_layers": 2, "size": 8}


def write_finetuned_from(run: Path, folder: Path, problem: str, **changes) -> Path:
    """A finished run of fine-tuning that began with another run; `changes`: as those of `toy_config`."""
    train = write_examples(folder / "data", problem, number=24)
    brief = {"train__epochs": None, "train__max_steps": 2}
    finetune(toy_config(train, run, problem, **brief, **changes), folder / "run")
    return folder / "run"
