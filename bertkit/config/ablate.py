"""The typed configuration of a comparison: what is pre-trained and fine-tuned alike, and what is varied."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.leaves import EXECUTION, PositiveInt, Section
from bertkit.config.load import config_of, find_recipe, read_yaml, validate_config
from bertkit.config.schema import PretrainConfig
from bertkit.errors import ConfigError, nearest

TableName = Literal["objectives", "sizes", "masking", "steps", "features"]
TABLES: Final[tuple[TableName, ...]] = get_args(TableName)

_BUDGET: Final = re.compile(r"(\d+(?:\.\d+)?) ?(s|m|min|h|hours?|minutes?|seconds?|steps?)")
_MINUTES: Final = {"s": 1 / 60, "m": 1.0, "h": 60.0}

# What a table varies is not for --set to say.
_VARIED: Final[dict[TableName, tuple[str, ...]]] = {
    "objectives": ("pretrain.objective", "pretrain.pairs.next_sentence", "finetune.model.bilstm"),
    "sizes": (),
    "masking": ("pretrain.masking.mask_share", "pretrain.masking.random_share", "finetune.model.bilstm"),
    "steps": ("pretrain.objective", "pretrain.pairs.next_sentence"),
    "features": ("finetune.model.bilstm", "finetune.model.freeze"),
}
# What a model to go on from has already, where that is what a table varies.
_OF_SOURCE: Final[dict[TableName, str]] = {
    "objectives": "directions of reading",
    "sizes": "shapes",
    "steps": "directions of reading",
}
# What every cell of every table gets from its place in it, or from an option.
_OF_CELLS: Final = {
    "pretrain.corpus": "CORPUS",
    "pretrain.train.max_steps": "--budget",
    "pretrain.train.max_minutes": "--budget",
    "pretrain.train.epochs": "--budget",
    "finetune.task.name": "--tasks",
    "finetune.task.train": "--tasks",
    "finetune.task.evaluate": "--tasks",
    "finetune.task.problem": "--tasks",
    "finetune.task.data_dir": "--data-dir",
    "finetune.model.init_from": "the pre-trained models of the table",
}
_BELOW: Final = {*PretrainConfig.model_fields, *FinetuneConfig.model_fields}
# A checkpoint after each fifth.
_LEAST_STEPS: Final = 5


class Budget(Section):
    """How long every model is pre-trained: exactly one of the two is given."""

    max_steps: PositiveInt | None = None
    max_minutes: Annotated[float, Field(gt=0)] | None = None

    @property
    def words(self) -> str:
        """`2,000 steps`, `10 minutes` or, where that is no short number of minutes, `8 seconds`."""
        if self.max_steps is not None:
            return f"{self.max_steps:,} step" + "s" * (self.max_steps != 1)
        minutes = self.max_minutes or 0
        if minutes < 1 or round(minutes, 6) != round(minutes, 2):
            return f"{60 * minutes:g} second" + "s" * (round(60 * minutes, 6) != 1)
        return f"{minutes:g} minute" + "s" * (minutes != 1)


def parse_budget(text: str) -> Budget:
    """What `10m`, `90s`, `1.5h` or `2000steps` means.

    Raises:
        ConfigError: anything else, a number without a unit above all.
    """
    forms = "give minutes or steps, such as 10m, 90s, 1.5h or 2000steps"
    found = _BUDGET.fullmatch(text.strip().replace(",", "").replace("_", ""))
    if found is None:
        raise ConfigError(f"the budget '{text[:40]}' is no length of training: {forms}")
    number, unit = float(found[1]), found[2]
    if not number:
        raise ConfigError(f"the budget '{text}' is no training at all: {forms}")
    if unit.startswith("step"):
        if number != int(number):
            raise ConfigError(f"the budget '{text}' is no whole number of steps: {forms}")
        return Budget(max_steps=int(number))
    return Budget(max_minutes=number * _MINUTES[unit[0]])


class AblateConfig(Section):
    """Everything a comparison depends on; what its table varies is laid over `pretrain` and `finetune`."""

    table: TableName = Field(description="What is compared: the paper's Tables 5, 6 and 8, its Figure 5, its Table 7.")
    tasks: tuple[str, ...] = Field(
        (),
        description="Named tasks and own labelled files to fine-tune on; none: the table's.",
        json_schema_extra=EXECUTION,
    )
    budget: str = Field("10m", description="How long every model is pre-trained: 10m, 90s, 1.5h or 2000steps.")
    seeds: PositiveInt = Field(
        5, description="Fine-tuning runs of every pre-trained model and task.", json_schema_extra=EXECUTION
    )
    pretraining_seeds: PositiveInt = Field(
        1,
        description="Models pre-trained of every kind; with several, deviations are those of their means.",
        json_schema_extra=EXECUTION,
    )
    parallel: PositiveInt | None = Field(
        None,
        description="Cells that run side by side; null: one a GPU, or one.",
        json_schema_extra=EXECUTION,
    )
    feature_learning_rate: Annotated[float, Field(gt=0)] | None = Field(
        None, description="Peak learning rate where the encoder is frozen; null: what feature-based runs take."
    )
    keep_models: bool = Field(
        False, description="Keep the fine-tuned model of every cell, not its scores only.", json_schema_extra=EXECUTION
    )
    pretrain: PretrainConfig
    finetune: FinetuneConfig = FinetuneConfig()

    @field_validator("tasks", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _budget_is_that_of_pretraining(self) -> Self:
        train, budget = self.pretrain.train, parse_budget(self.budget)
        if (train.max_steps, train.max_minutes) != (budget.max_steps, budget.max_minutes):
            raise ValueError(f"pretrain.train is of another length than the budget {self.budget}: leave its length out")
        return self

    @model_validator(mode="after")
    def _models_can_be_varied(self) -> Self:
        if (fixed := _OF_SOURCE.get(self.table)) and self.pretrain.train.init_from is not None:
            raise ValueError(
                f"the table {self.table} compares {fixed}, and pretrain.train.init_from has one: set it to null"
            )
        if self.table == "masking" and not self.pretrain.objective.startswith("mlm"):
            raise ValueError(
                f"the table masking compares masked LMs, and pretrain.objective is {self.pretrain.objective}"
            )
        if self.table == "steps" and (self.pretrain.train.max_steps or _LEAST_STEPS) < _LEAST_STEPS:
            raise ValueError(f"the table steps takes models at fifths of the budget: give {_LEAST_STEPS} steps or more")
        return self


def load_ablation(recipe: str, *, settings: Sequence[str], options: Mapping[str, Any]) -> AblateConfig:
    """The config of a comparison on the models of a pre-training recipe and the paper's way of fine-tuning.

    settings: "pretrain.KEY=VALUE", "finetune.KEY=VALUE", or a key of the comparison itself. options: dotted key to
    value; None is left out. They hold `table` and `budget`.

    Raises:
        ConfigError: a key is unknown (names the nearest), a value does not fit, or the table itself sets it.
    """
    _refuse_varied(options["table"], settings)
    budget = parse_budget(options["budget"])
    pretrain, finetune = find_recipe(recipe), find_recipe("paper", finetuning=True)
    values = {"pretrain": _read_for(budget, pretrain), "finetune": read_yaml(finetune)}
    try:
        return config_of(AblateConfig, values, source="the options", settings=settings, options=options)
    except ConfigError:
        # The file is named where it is wrong by itself only.
        validate_config(PretrainConfig, _read_for(budget, pretrain), source=pretrain.name)
        raise


def _read_for(budget: Budget, recipe: Path) -> dict[str, Any]:
    """The values of a pre-training recipe, its length the budget."""
    values = read_yaml(recipe)
    train = values.setdefault("train", {})
    if not isinstance(train, dict):
        raise ConfigError(f"{recipe.name}: 'train' is not a section")
    train.update(epochs=None, **budget.model_dump())
    return values


def _refuse_varied(table: str, settings: Sequence[str]) -> None:
    if table not in TABLES:
        raise ConfigError(f"there is no table '{table[:40]}'{nearest(table, TABLES)}; give {', '.join(TABLES)}")
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if key in ("table", "tasks", "budget", "seeds", "parallel"):
            raise ConfigError(f"--set {key} is the option --{key}: give it as that")
        section = key.partition(".")[0]
        if section in _BELOW:
            raise ConfigError(f"--set {key}: settings of models are pretrain.KEY, those of fine-tuning finetune.KEY")
        for varied in _VARIED[table]:
            if _overlaps(key, varied):
                raise ConfigError(f"--set {key}: the table '{table}' compares values of {varied}, so leave it out")
        for own, option in _OF_CELLS.items():
            if _overlaps(key, own):
                raise ConfigError(f"--set {key}: {own} is said by {option}, so leave it out")


def _overlaps(key: str, other: str) -> bool:
    """Whether one of two dotted keys is the other, or a section that holds it."""
    return f"{key}.".startswith(f"{other}.") or f"{other}.".startswith(f"{key}.")
