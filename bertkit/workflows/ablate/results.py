"""What the finished cells come to: a mean and a deviation for every row and column, and what every model got."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import Any, Final

from bertkit.config.ablate import TableName
from bertkit.errors import CheckpointError, refused_as
from bertkit.workflows.ablate.cells import checkpoint_at, is_finished
from bertkit.workflows.ablate.plan import AblationPlan, Column, FinetuneCell, PretrainCell
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.suite import headline_value

# What marks a figure that counts runs which learnt nothing.
COLLAPSED: Final = "\u2020"
# Figures that are no shares of 1.
_AS_THEY_ARE: Final = ("mse",)


@dataclass(frozen=True)
class Figure:
    """A place of the table, in percent: the mean of `values`, which are by the key of their cells.

    deviation: the standard deviation of the values, of models of several seeds that of each model's mean, since runs
    of one model are not independent; None of a single one. collapsed: how many of the runs learnt nothing.
    """

    mean: float
    deviation: float | None
    values: Mapping[str, float]
    collapsed: int = 0


@dataclass(frozen=True)
class Got:
    """What a row's model was given, and how well it does on held-out text; means over the models of several seeds.

    share: of the pre-training that this is of. perplexity: of the objective's own predictions, so those of different
    objectives are not to be compared.
    """

    share: float
    steps: float
    tokens: float
    minutes: float
    parameters: int | None
    perplexity: float | None


@dataclass(frozen=True)
class RowResults:
    """A line of the table as far as its cells are finished."""

    key: str
    cells: tuple[str, ...]
    got: Got | None
    figures: Mapping[str, Figure]


@dataclass(frozen=True)
class ColumnResults:
    """A column: its key, its task's, its head, the figure, and the fingerprint of the examples."""

    key: str
    task: str
    title: str
    metric: str


@dataclass(frozen=True)
class AblationResults:
    """The whole table; `done` of `total` cells are finished."""

    table: TableName
    title: str
    source: str
    budget: str
    seeds: int
    pretraining_seeds: int
    labels: tuple[str, ...]
    columns: tuple[ColumnResults, ...]
    rows: tuple[RowResults, ...]
    done: int
    total: int
    shows_perplexity: bool
    notes: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every cell is finished."""
        return self.done == self.total

    @property
    def runs_a_figure(self) -> int:
        """Runs that a place of the table is of when it is complete."""
        return self.seeds * self.pretraining_seeds

    def to_json(self) -> str:
        """The text of results.json."""
        return json.dumps(asdict(self), indent=2) + "\n"


def collect(plan: AblationPlan) -> AblationResults:
    """Reads what the finished cells left.

    Raises:
        CheckpointError: a results.json is damaged, or cells of one column were trained or scored on other examples.
    """
    models = {model.key: _read_model(model) for model in plan.models if is_finished(model)}
    runs = {run.key: RunFolder(run.path).read_results() for run in plan.runs if is_finished(run)}
    for column in plan.columns:
        _require_same_examples(
            [(run, runs[run.key]) for run in plan.runs if run.column == column.key and run.key in runs]
        )
    comparison, config = plan.comparison, plan.config
    rows = tuple(
        RowResults(
            row.key,
            row.cells,
            _got(
                [(m, models[m.key]) for m in plan.models if m.pretraining == row.pretraining and m.key in models],
                row.share,
            ),
            {
                column.key: figure
                for column in plan.columns
                if (figure := _figure(plan, row.key, column, runs)) is not None
            },
        )
        for row in comparison.rows
    )
    return AblationResults(
        table=config.table,
        title=comparison.title,
        source=comparison.source,
        budget=config.budget,
        seeds=config.seeds,
        pretraining_seeds=config.pretraining_seeds,
        labels=comparison.labels,
        columns=tuple(_column(plan, column, runs) for column in plan.columns),
        rows=rows,
        done=len(models) + len(runs),
        total=len(plan.cells),
        shows_perplexity=comparison.shows_perplexity,
        notes=(_meaning_of_deviations(plan), *comparison.notes, *_collapsed(rows)),
    )


def perplexity_of(model: PretrainCell) -> float | None:
    """How well a finished model predicts held-out text; None where none is held out."""
    return _perplexity(_read_model(model)["heldout"])


def _read_model(model: PretrainCell) -> dict[str, Any]:
    path = RunFolder(model.path).results_file
    with refused_as(CheckpointError, f"{path} is damaged: remove it and run the same command again"):
        results = dict(json.loads(path.read_text(encoding="utf-8")))
        return {name: results[name] for name in ("step", "heldout", "provenance")}


def _figure(plan: AblationPlan, row: str, column: Column, runs: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    found = [run for run in plan.runs if (run.row, run.column) == (row, column.key) and run.key in runs]
    if not found:
        return None
    values = {run.key: in_percent(runs[run.key]) for run in found}
    independent = list(values.values())
    if plan.config.pretraining_seeds > 1:
        by_model = {run.model.key: [values[each.key] for each in found if each.model == run.model] for run in found}
        independent = [mean(each) for each in by_model.values()]
    return Figure(
        mean(values.values()),
        stdev(independent) if len(independent) > 1 else None,
        values,
        sum(bool(runs[key]["collapsed"]) for key in values),
    )


def in_percent(results: Mapping[str, Any]) -> float:
    """The figure that chose a run's checkpoint, as the paper prints it."""
    value = headline_value(results)
    is_share = results["problem"] != "span_qa" and results["headline"].rpartition("_")[2] not in _AS_THEY_ARE
    return 100 * value if is_share else value


def _column(plan: AblationPlan, column: Column, runs: Mapping[str, Mapping[str, Any]]) -> ColumnResults:
    found = next((runs[run.key] for run in plan.runs if run.column == column.key and run.key in runs), None)
    metric = ""
    if found is not None:
        split = next(split for split in found["scores"] if found["headline"].startswith(f"{split}_"))
        metric = found["headline"].removeprefix(f"{split}_")
    return ColumnResults(column.key, column.task.name or column.task.key, column.title, metric)


def _got(models: Sequence[tuple[PretrainCell, Mapping[str, Any]]], share: float) -> Got | None:
    if not models:
        return None
    each = [_got_by(cell, results, share) for cell, results in models]
    perplexities = [got.perplexity for got in each if got.perplexity is not None]
    return Got(
        share,
        mean(got.steps for got in each),
        mean(got.tokens for got in each),
        mean(got.minutes for got in each),
        each[0].parameters,
        mean(perplexities) if perplexities else None,
    )


def _got_by(cell: PretrainCell, results: Mapping[str, Any], share: float) -> Got:
    provenance, heldout = results["provenance"], results["heldout"]
    parameters = provenance.get("parameters")
    if share < 1:
        at = checkpoint_at(cell, share).manifest
        return Got(share, at["step"], at["tokens"], at["elapsed_s"] / 60, parameters, None)
    tokens, elapsed_s = provenance["tokens"], provenance["elapsed_s"]
    return Got(share, results["step"], tokens, elapsed_s / 60, parameters, _perplexity(heldout))


def _perplexity(heldout: Mapping[str, Any]) -> float | None:
    found = heldout.get("mlm_perplexity", heldout.get("lm_perplexity"))
    return None if found is None else float(found)


def _require_same_examples(cells: Sequence[tuple[FinetuneCell, Mapping[str, Any]]]) -> None:
    for cell, results in cells:
        for name in ("data_hash", "evaluation_hash"):
            if results.get(name) != cells[0][1].get(name):
                raise CheckpointError(
                    f"{cell.path} and {cells[0][0].path} were trained or scored on other examples, so no table can "
                    "hold both: put the old files back, or remove one of the two folders"
                )


def _meaning_of_deviations(plan: AblationPlan) -> str:
    seeds = plan.config.seeds
    if plan.config.pretraining_seeds > 1:
        return (
            f"Means over {plan.config.pretraining_seeds} pre-trained models with {seeds} fine-tuning "
            f"run{'s' * (seeds != 1)} of each; deviations are those of the models' means."
        )
    if seeds == 1:
        return "One pre-trained model a row and one fine-tuning run of it, so nothing is known of deviations."
    return (
        f"Mean and standard deviation over {seeds} fine-tuning runs of one pre-trained model: how much another "
        "pre-training of the same kind would differ is not in them."
    )


def _collapsed(rows: Sequence[RowResults]) -> tuple[str, ...]:
    found = any(figure.collapsed for row in rows for figure in row.figures.values())
    return (f"{COLLAPSED} Some of these runs learnt nothing: one answer for everything, or a flat loss.",) * found
