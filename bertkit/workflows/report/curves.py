"""The charts of how training went: loss, accuracies, evaluations, learning rate, throughput, gradient norm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bertkit.workflows.health import BandPoint
from bertkit.workflows.report.charts import Band, Chart, Form, Series, Style, constant
from bertkit.workflows.report.history import AXES, MOST_POINTS, Curve, History, Values

X_TITLES: Final = {"steps": "steps", "tokens": "tokens", "time": "time"}
# Name of the figure, title, unit, how it is written, the level it is held against.
_PRETRAINING: Final[tuple[tuple[str, str, str, Form, tuple[str, str] | None], ...]] = (
    ("mlm_loss", "Masked LM loss", "nats", "plain", ("word frequencies alone", "unigram_entropy")),
    ("mlm_accuracy", "Masked LM accuracy", "", "percent", None),
    ("lm_loss", "LM loss", "nats", "plain", ("word frequencies alone", "unigram_entropy")),
    ("lm_accuracy", "LM accuracy", "", "percent", None),
    ("nsp_accuracy", "{pairs} accuracy", "", "percent", ("always the same answer", "nsp_majority")),
    ("nsp_loss", "{pairs} loss", "nats", "plain", None),
)
_OPTIMISATION: Final[tuple[tuple[str, str, str, Form], ...]] = (
    ("learning_rate", "Learning rate", "", "plain"),
    ("tokens_per_s", "Throughput", "tokens a second", "count"),
    ("grad_norm", "Gradient norm before clipping", "", "plain"),
)


@dataclass(frozen=True)
class Logged:
    """A run's name and what it logged; `bands`, by figure, say where healthy runs of its size lie, if that is known."""

    name: str
    history: History
    bands: Mapping[str, Sequence[BandPoint]] = field(default_factory=dict)


def pretraining_charts(runs: Sequence[Logged], *, pairs: str) -> list[Chart]:
    """Losses and accuracies of one run, or of several over one another; `pairs`: what is learned of pairs."""
    charts = [
        _pretraining_chart(runs, key, title.format(pairs=pairs.capitalize()), unit, form, level)
        for key, title, unit, form, level in _PRETRAINING
    ]
    return [chart for chart in charts if chart.series]


def finetuning_charts(runs: Sequence[Logged], figures: Mapping[str, str], written: Mapping[str, Form]) -> list[Chart]:
    """Training loss and what the evaluations said; `figures` are names by column, `written` the form of each."""
    loss = [series for number, run in enumerate(runs, 1) for series in _series(run, "loss", run.name, "line", number)]
    charts = [Chart("loss", "Training loss", loss, X_TITLES)] if loss else []
    if len(runs) == 1:
        # One chart a kind of value, for shares and correlations have no axis in common with errors.
        for form in dict.fromkeys(written[figure] for figure in figures):
            names = [figure for figure in figures if written[figure] == form]
            series = [
                each for n, name in enumerate(names, 1) for each in _series(runs[0], name, figures[name], "points", n)
            ]
            # One evaluation is no curve, and its scores are in the table.
            if series and len(series[0].y) > 1:
                charts.append(Chart(f"scores-{form}", "Scores during training", series, X_TITLES, form=form))
        return charts
    for figure, title in figures.items():
        series = [each for n, run in enumerate(runs, 1) for each in _series(run, figure, run.name, "points", n)]
        if any(len(each.y) > 1 for each in series):
            charts.append(Chart(figure, title, series, X_TITLES, form=written[figure]))
    return charts


def optimisation_charts(runs: Sequence[Logged]) -> list[Chart]:
    """Learning rate, throughput and gradient norm."""
    charts = []
    for key, title, unit, form in _OPTIMISATION:
        series = [each for number, run in enumerate(runs, 1) for each in _series(run, key, run.name, "line", number)]
        if series:
            limits = (0, None) if key == "tokens_per_s" else (None, None)
            charts.append(Chart(key, title, series, X_TITLES, form=form, unit=unit, limits=limits))
    return charts


def _pretraining_chart(
    runs: Sequence[Logged], key: str, title: str, unit: str, form: Form, level: tuple[str, str] | None
) -> Chart:
    series: list[Series] = []
    shown: dict[int, Logged] = {}
    alone = len(runs) == 1
    for number, run in enumerate(runs, start=1):
        name = "training" if alone else f"{run.name}, training"
        heldout = "held-out" if alone else f"{run.name}, held-out"
        of_run = _series(run, key, name, "thin", number)
        of_run += _series(run, f"heldout_{key}", heldout, "points", number + alone)
        if of_run:
            shown[number] = run
        series += of_run
    bands = [] if len(runs) > 1 or not series else _bands(runs[0], key)
    if level is not None:
        series += _levels(shown, series, *level)
    limits = _limits(series, bands) if bands else (None, None)
    return Chart(key, title, series, X_TITLES, form=form, unit=unit, bands=bands, limits=limits)


def _levels(runs: Mapping[int, Logged], series: Sequence[Series], name: str, key: str) -> list[Series]:
    """The level to hold all curves against; one a run, in its colour, where it is not the same for all of them.

    runs: those that have curves here, by their number among all.
    """
    known = {number: run.history.last(f"heldout_{key}") for number, run in runs.items()}
    values = {number: value for number, value in known.items() if value is not None}
    if not series or not values:
        return []
    over = {axis: np.concatenate([each.x[axis] for each in series]) for axis in AXES}
    # Stores of the same text differ by what is drawn as one line and written as one number.
    if len(values) == len(runs) and len({f"{value:.3g}" for value in values.values()}) == 1:
        return [constant(name, next(iter(values.values())), over)]
    return [constant(f"{runs[n].name}, {name}", value, over, n) for n, value in values.items()]


def _limits(series: Sequence[Series], bands: Sequence[Band]) -> tuple[float, float]:
    """The curves with as much of the bands around them as leaves them to be seen."""
    values = np.concatenate([each.y for each in series])
    low, high = float(values.min()), float(values.max())
    margin = 0.4 * (high - low) + 1e-9
    floor, ceiling = min(band.low.min() for band in bands), max(band.high.max() for band in bands)
    edge = 0.1 * margin
    return max(low - margin, min(floor, low) - edge), min(high + margin, max(ceiling, high) + edge)


def _series(run: Logged, key: str, name: str, style: Style, colour: int) -> list[Series]:
    curve = run.history.curve(key)
    return [Series(name, _over_axes(curve), curve.values, style, colour)] if len(curve) else []


def _over_axes(curve: Curve) -> dict[str, Values]:
    return {axis: curve.over(axis) for axis in AXES}


def _bands(run: Logged, key: str) -> list[Band]:
    points = list(run.bands.get(key, ()))
    if len(points) < 2:
        return []
    chosen = np.array([(p.step, p.low, p.high) for p in points[:: -(-len(points) // MOST_POINTS)] + points[-1:]], float)
    curve = run.history.curve_of(chosen[:, 0], chosen[:, 1])
    return [Band("healthy runs", _over_axes(curve), chosen[:, 1], chosen[:, 2])]
