"""What a comparison will about take, before anything of it is begun."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from bertkit.config.schema import PretrainConfig
from bertkit.data.features import Array
from bertkit.tasks.spec import Example
from bertkit.workflows.ablate.examples import read_examples
from bertkit.workflows.ablate.plan import AblationPlan, Column, FinetuneCell
from bertkit.workflows.bench.rates import Sizes, build_rates, classification_flops, pretraining_flops
from bertkit.workflows.bench.request import default_precision, device_type
from bertkit.workflows.finetune_setup import resolve
from bertkit.workflows.task_data import TaskData

# Of the matmul rate, what training small and middling models reaches (recipes/README.md, Speed).
UTILISATION: Final = 0.4
# What English takes in a vocabulary of BERT's kind, and how full instances are that are cut at a length.
TOKENS_A_WORD: Final = 1.4
FILLED: Final = 0.9
# Opening data and model, exporting and scoring.
SECONDS_A_CELL: Final = 4.0


@dataclass(frozen=True)
class Cost:
    """Seconds of all cells together, and how many of them are over at once; None where the examples are on the Hub.

    examples: to train on, by column.
    """

    pretraining_s: float
    finetuning_s: float | None
    examples: Mapping[str, int]
    models_at_once: float
    runs_at_once: float


def estimate_cost(plan: AblationPlan, *, workers: int) -> Cost:
    """A guess from the FLOPs of every cell and the rate at which this machine multiplies, measured in a second.

    Cells that are finished are not taken out.
    """
    config = plan.config.pretrain
    rate = UTILISATION * _matmul_flops(config)
    work = {column.key: _work(plan, column) for column in plan.columns if _is_here(plan, column)}
    pretraining_s = sum(_pretraining_s(model.config, rate) + SECONDS_A_CELL for model in plan.models)
    finetuning_s = None
    if len(work) == len(plan.columns):
        finetuning_s = sum(_finetuning_s(run, work[run.column], rate) + SECONDS_A_CELL for run in plan.runs)
    examples = {key: len(each.data.train) for key, each in work.items()}
    return Cost(pretraining_s, finetuning_s, examples, *_at_once(config, workers))


def _at_once(config: PretrainConfig, workers: int) -> tuple[float, float]:
    """How many cells' worth is done at once: of what the clock ends, all workers'; on one processor, one's else."""
    computed = 1 if device_type() == "cpu" else workers
    return (workers if config.train.max_minutes is not None else computed), computed


def _is_here(plan: AblationPlan, column: Column) -> bool:
    return column.task.name is None or plan.config.finetune.task.data_dir is not None


def _matmul_flops(config: PretrainConfig) -> float:
    precision = default_precision(config)
    tokens = config.train.global_batch_size * config.train.phases[0].max_seq_length
    worker = build_rates([precision], config.model, min(tokens, 4096), device=device_type())
    return float(worker.work(1).outcome[precision])


@dataclass(frozen=True)
class _Work:
    """The examples of a column, and the lengths of what is trained on and of what is scored."""

    data: TaskData
    train_I: Array
    evaluate_I: Array


def _work(plan: AblationPlan, column: Column) -> _Work:
    examples = read_examples(plan, column)
    data, longest = examples.data, examples.longest
    evaluated = [example for rows in data.evaluate.values() for example in rows]
    return _Work(data, _lengths(data.train, longest), _lengths(evaluated, longest))


def _pretraining_s(config: PretrainConfig, rate: float) -> float:
    train = config.train
    if train.max_minutes is not None:
        return 60 * train.max_minutes
    vocabulary = config.model.vocab_size or config.data.tokenizer.vocab_size
    seconds = 0.0
    for phase in train.phases:
        lengths_I = np.full(train.global_batch_size, round(FILLED * phase.max_seq_length))
        masked = 1.0 if not config.objective.startswith("mlm") else config.masking.mlm_probability
        sizes = Sizes(lengths_I, round(masked * lengths_I.sum()))
        flops = pretraining_flops(config.model, sizes, vocab_size=vocabulary)
        seconds += phase.share * (train.max_steps or 0) * flops / rate
    return seconds


def _finetuning_s(run: FinetuneCell, work: _Work, rate: float) -> float:
    config, shape = resolve(run.config, work.data), run.model.config.model
    steps_instances = (config.train.max_steps or 0) * (config.train.global_batch_size or 1)
    epochs = config.train.epochs or steps_instances / len(work.train_I)
    labels, trains = max(len(work.data.labels), 1), not config.model.is_feature_based
    trained = classification_flops(shape, Sizes(work.train_I), num_labels=labels, trains=trains)
    scored = classification_flops(shape, Sizes(work.evaluate_I), num_labels=labels, trains=False)
    # Scored at the end of every epoch, and once more.
    return float((epochs * trained + (epochs + 1) * scored) / rate)


def _lengths(examples: list[Example], longest: int) -> Array:
    words = [sum(len(str(text).split()) for text in example.texts) + 1 for example in examples]
    return np.minimum(np.array(words) * TOKENS_A_WORD + 2, longest)
