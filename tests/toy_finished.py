"""Finished runs of a second each: one of pre-training, one for every kind of problem, several seeds of one."""

from pathlib import Path

from toy_shapes import TINY_DATA, TINY_MODEL
from toy_tasks import toy_config, write_bert, write_examples

from bertkit.config.load import validate_config
from bertkit.config.schema import PretrainConfig
from bertkit.workflows.finetune import finetune
from bertkit.workflows.pretrain import pretrain
from bertkit.workflows.suite import run_cells, seeds_of

TINY = {
    "model": TINY_MODEL,
    "data": TINY_DATA,
    "train": {"max_steps": 4, "global_batch_size": 8, "precision": "fp32", "phases": [{"max_seq_length": 32}]},
    "every": {"log_steps": 2},
}


def write_pretrained(corpus: Path, run: Path, *, objective: str | None = None, **sections) -> Path:
    """A finished run of pre-training."""
    values = {**TINY, "corpus": str(corpus), **({"objective": objective} if objective else {})}
    for name, changes in sections.items():
        values[name] = {**values[name], **changes}
    pretrain(validate_config(PretrainConfig, values, source="test"), run)
    return run


def write_finetuned(folder: Path, problem: str = "classification", *, seeds: int = 1, **changes) -> Path:
    """A finished run of fine-tuning, or a folder of one for each seed."""
    train = write_examples(folder / "private data", problem)
    bert = write_bert(folder / "bert") if not (folder / "bert").exists() else folder / "bert"
    config, run = toy_config(train, bert, problem, **{"train__epochs": 1, **changes}), folder / problem
    if seeds == 1:
        finetune(config, run)
    else:
        run_cells(seeds_of(config, run, seeds), run)
    return run
