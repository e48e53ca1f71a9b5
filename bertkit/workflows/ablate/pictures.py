"""The plots of a comparison: a bar a row with its deviation, or a curve over steps; and the paper's beside them."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from bertkit.workflows.ablate.paper import PUBLISHED, Published
from bertkit.workflows.ablate.results import AblationResults, ColumnResults, Figure, RowResults
from bertkit.workflows.report.blocks import Picture
from bertkit.workflows.report.charts import Chart, Series
from bertkit.workflows.report.history import Values
from bertkit.workflows.report.svg import picture

_ROWS: Final = "rows"
_LONGEST_TICK: Final = 14


def column_pictures(results: AblationResults) -> list[Picture]:
    """One plot a column that has a figure: means with their deviations."""
    draw = _curve if results.table == "steps" else _bars
    charts = [draw(results, column) for column in results.columns]
    return [picture(chart, "own") for chart in charts if chart is not None]


def paper_pictures(results: AblationResults) -> list[Picture]:
    """One plot a column of the paper's table, in the order of its rows."""
    published = PUBLISHED[results.table]
    return [picture(_paper_bars(published, key), "paper") for key in published.columns]


def _bars(results: AblationResults, column: ColumnResults) -> Chart | None:
    found = [(row, row.figures[column.key]) for row in results.rows if column.key in row.figures]
    if not found:
        return None
    figures = [figure for _, figure in found]
    bars = Series(column.title, _places(len(found)), _means(figures), "bars", 1, _deviations(figures))
    ticks = [short_name(row, results.labels) for row, _ in found]
    return Chart(f"{_ROWS}-{column.key}", column.title, [bars], {_ROWS: ""}, unit=_unit(column.metric), x_ticks=ticks)


def _curve(results: AblationResults, column: ColumnResults) -> Chart | None:
    """A line an objective over the steps of its pre-training, as the paper's Figure 5."""
    series = []
    for number, name in enumerate(dict.fromkeys(row.cells[0] for row in results.rows), start=1):
        found = [
            (row.got.steps, row.figures[column.key])
            for row in results.rows
            if row.cells[0] == name and row.got is not None and column.key in row.figures
        ]
        if found:
            steps = np.array([step for step, _ in found], np.float64)
            figures = [figure for _, figure in found]
            series.append(Series(name, {"steps": steps}, _means(figures), "points", number, _deviations(figures)))
    if not series:
        return None
    return Chart(f"steps-{column.key}", column.title, series, {"steps": "steps"}, unit=_unit(column.metric))


def _paper_bars(published: Published, key: str) -> Chart:
    title, metric = published.columns[key]
    column = list(published.columns).index(key)
    rows = [(row, figures[column]) for row, (_, figures) in published.rows.items()]
    values = np.array([np.nan if figure is None else figure for _, figure in rows], np.float64)
    bars = Series(f"{title}, the paper's", _places(len(rows)), values, "bars", 2)
    ticks = [published.rows[row][0].replace(" %", "").replace(" ", "")[:_LONGEST_TICK] for row, _ in rows]
    return Chart(f"{_ROWS}-{key}", title, [bars], {_ROWS: ""}, unit=_unit(metric), x_ticks=ticks)


def short_name(row: RowResults, labels: Sequence[str]) -> str:
    """A row's name that fits under its bar: the numbers of its cells, or its key."""
    return "/".join(cell.removesuffix(" %") for cell in row.cells) if len(labels) > 1 else row.key


def _unit(metric: str) -> str:
    return metric.replace("_", " ")


def _places(number: int) -> dict[str, Values]:
    return {_ROWS: np.arange(number, dtype=np.float64)}


def _means(figures: Sequence[Figure]) -> Values:
    return np.array([figure.mean for figure in figures], np.float64)


def _deviations(figures: Sequence[Figure]) -> Values | None:
    if all(figure.deviation is None for figure in figures):
        return None
    return np.array([np.nan if figure.deviation is None else figure.deviation for figure in figures], np.float64)
