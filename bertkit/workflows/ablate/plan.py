"""From a comparison to its cells: every model to pre-train and every run of fine-tuning, each with its folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bertkit.config.ablate import AblateConfig
from bertkit.config.finetune import FinetuneConfig
from bertkit.config.load import with_values
from bertkit.config.schema import PretrainConfig
from bertkit.data.store import is_store
from bertkit.errors import ConfigError
from bertkit.workflows.ablate.comparisons import FOUR, Approach, Comparison, comparison_of, reads_last_four
from bertkit.workflows.ablate.tasks import ComparedTask, find_compared, require_distinct
from bertkit.workflows.initial import with_initial_shape


@dataclass(frozen=True)
class PretrainCell:
    """A model to pre-train; `takes` are the shares of its pre-training after which it is fine-tuned."""

    key: str
    pretraining: str
    seed: int
    path: Path
    config: PretrainConfig
    takes: tuple[float, ...]

    def model(self, share: float) -> Path:
        """What fine-tuning begins from: the run itself at its end, else its copy on the way."""
        return self.path if share == 1 else self.path / "on-the-way" / f"{share:.2f}"


@dataclass(frozen=True)
class Column:
    """A task, and how it uses the model."""

    task: ComparedTask
    approach: Approach

    @property
    def key(self) -> str:
        """The folder of its cells."""
        return self.task.key if self.approach.title == "" else f"{self.task.key}-{self.approach.key}"

    @property
    def title(self) -> str:
        """The head of the column."""
        return self.task.title if self.approach.title == "" else f"{self.task.title}, {self.approach.title}"


@dataclass(frozen=True)
class FinetuneCell:
    """A run of fine-tuning: of a row's model, in a column, under a seed."""

    key: str
    row: str
    column: str
    seed: int
    path: Path
    config: FinetuneConfig
    model: PretrainCell


Cell = PretrainCell | FinetuneCell


@dataclass(frozen=True)
class AblationPlan:
    """All there is to do, in order."""

    config: AblateConfig
    comparison: Comparison
    path: Path
    columns: tuple[Column, ...]
    models: tuple[PretrainCell, ...]
    runs: tuple[FinetuneCell, ...]

    @property
    def store(self) -> Path | str:
        """Where the tokens of all models lie: beside them, or where a prepared store was given as the corpus."""
        return store_of(self.config, self.path)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell, the runs of a model right behind it."""
        cells: list[Cell] = []
        for model in self.models:
            cells += [model, *(run for run in self.runs if run.model == model)]
        return tuple(cells)


def plan_ablation(config: AblateConfig, path: Path) -> AblationPlan:
    """Every cell of a comparison under `path`; reads no example and writes nothing.

    Raises:
        ConfigError: the corpus is missing, the settings do not fit what the table varies, or there is no such model
            to begin from.
        TaskError: a task is unknown, or its files are not there.
    """
    if config.pretrain.corpus is None:
        raise ConfigError("no corpus was named: bertkit ablate CORPUS --table objectives")
    # Models that go on from another have its shape and its tokenizer.
    config = config.model_copy(update={"pretrain": with_initial_shape(config.pretrain)})
    comparison = comparison_of(config)
    data_dir = None if config.finetune.task.data_dir is None else Path(config.finetune.task.data_dir)
    names = config.tasks or comparison.default_tasks
    metric = config.finetune.task.metric
    tasks = [find_compared(name, data_dir=data_dir, metric=metric) for name in names]
    require_distinct(tasks)
    columns = tuple(
        Column(task, approach)
        for task in tasks
        for approach in comparison.approaches
        if task.is_tagging or not approach.tagging_only
    )
    _require_layers(config, comparison, columns)
    models = tuple(_models(config, comparison, path))
    runs = tuple(_runs(config, comparison, columns, models, path))
    return AblationPlan(config, comparison, path, columns, models, runs)


def store_of(config: AblateConfig, path: Path) -> Path | str:
    """Where the token store of a comparison is, or will be."""
    corpus = str(config.pretrain.corpus)
    return corpus if is_store(corpus) else path / "store"


def _require_layers(config: AblateConfig, comparison: Comparison, columns: tuple[Column, ...]) -> None:
    """Refuses models without four layers where four are read: nobody wants to hear of it after pre-training."""
    layers = config.pretrain.model.num_hidden_layers
    uses = [*(row.settings for row in comparison.rows), *(column.approach.settings for column in columns)]
    if layers < FOUR and any(map(reads_last_four, uses)):
        without = ", or leave tagging tasks out of --tasks" if config.table == "masking" else ""
        raise ConfigError(
            f"model.num_hidden_layers {layers} is too few for features of the last {FOUR} layers: take a recipe with "
            f"{FOUR} or more for the table '{config.table}'{without}"
        )


def _models(config: AblateConfig, comparison: Comparison, path: Path) -> Iterator[PretrainCell]:
    first = config.pretrain.train.seed
    corpus = str(store_of(config, path.resolve()))
    for pretraining in comparison.pretrainings:
        takes = tuple(dict.fromkeys(row.share for row in comparison.rows if row.pretraining == pretraining.key))
        for seed in range(first, first + config.pretraining_seeds):
            key = pretraining.key if seed == first else f"{pretraining.key}-seed-{seed}"
            changes = {"corpus": corpus, "train.seed": seed, **pretraining.settings}
            varied = with_values(config.pretrain, changes, source=f"{config.table}: {pretraining.key}")
            yield PretrainCell(key, pretraining.key, seed, path / "pretrain" / key, varied, takes)


def _runs(
    config: AblateConfig,
    comparison: Comparison,
    columns: tuple[Column, ...],
    models: tuple[PretrainCell, ...],
    path: Path,
) -> Iterator[FinetuneCell]:
    first = config.finetune.train.seed
    for row in comparison.rows:
        for model in (each for each in models if each.pretraining == row.pretraining):
            for column in columns:
                for seed in range(first, first + config.seeds):
                    name = f"seed-{seed}" if model.key == row.pretraining else f"pretraining-{model.seed}-seed-{seed}"
                    key = f"{row.key}/{column.key}/{name}"
                    changes = {
                        **column.task.settings,
                        **row.settings,
                        **column.approach.settings,
                        "model.init_from": str(model.model(row.share).resolve()),
                        "train.seed": seed,
                    }
                    varied = with_values(config.finetune, changes, source=f"{config.table}: {row.key}")
                    yield FinetuneCell(key, row.key, column.key, seed, path / "finetune" / key, varied, model)
