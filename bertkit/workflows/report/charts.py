"""Charts as values, and matplotlib's drawing of them in colours that a page or a file may choose."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from bertkit.errors import printable
from bertkit.workflows.report.history import Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Form = Literal["plain", "percent", "count"]
Style = Literal["line", "thin", "points", "bars", "scatter", "reference"]
WIDTH_IN, HEIGHT_IN = 5.6, 2.9
# What a distance between two ticks may be, times a power of ten.
_ROUND: Final = (1, 2, 5, 10)
# Told apart by the dash too, for whoever does not see the colour.
_DASHES: Final = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (8, 3)), (0, (3, 1.5, 1, 1.5)))


@dataclass(frozen=True)
class Colours:
    """What a drawing is painted with; series are numbered from 1."""

    text: str
    grid: str
    reference: str
    band: str
    series: Sequence[str]
    page: str = "none"

    def of(self, number: int) -> str:
        """The colour of a series, 0 for a reference; they come again after the last."""
        return self.reference if number == 0 else self.series[(number - 1) % len(self.series)]


# Okabe and Ito (2008): told apart with every kind of colour blindness.
ON_PAPER: Final = Colours(
    text="#30343b",
    grid="#e3e6ea",
    reference="#7a808a",
    band="#009e73",
    series=("#0072b2", "#c8500a", "#007a5a", "#a3478a", "#2f8fc4", "#a87400"),
    page="white",
)


@dataclass(frozen=True)
class Series:
    """One set of points: horizontal values by axis, vertical ones, how and in which colour they are drawn.

    error: half the length of an error bar at each point, not finite where there is none.
    """

    name: str
    x: Mapping[str, Values]
    y: Values
    style: Style = "line"
    colour: int = 1
    error: Values | None = None


@dataclass(frozen=True)
class Band:
    """Where a figure of a healthy run lies: low and high by axis."""

    name: str
    x: Mapping[str, Values]
    low: Values
    high: Values


@dataclass(frozen=True)
class Chart:
    """A titled chart: `x_titles` by axis, several where the reader may choose; `form` says how its values are written.

    limits: of the vertical axis, where it should not follow from the values. x_ticks: names of places 0, 1, 2.
    """

    key: str
    title: str
    series: Sequence[Series]
    x_titles: Mapping[str, str]
    form: Form = "plain"
    unit: str = ""
    bands: Sequence[Band] = ()
    limits: tuple[float | None, float | None] = (None, None)
    x_form: Literal["plain", "percent"] = "plain"
    note: str = ""
    x_ticks: Sequence[str] = ()

    @property
    def heading(self) -> str:
        """The title and the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


@contextmanager
def drawn(
    chart: Chart, axis: str, colours: Colours, *, with_titles: bool = False, **settings: Any
) -> Iterator["Figure"]:
    """The chart over one of its axes, for as long as it is saved; with titles where it must explain itself alone.

    `settings` are matplotlib's own, such as svg.hashsalt, with _ for the dot.
    """
    from matplotlib import rc_context, rcdefaults, rcParams
    from matplotlib.figure import Figure

    with rc_context():
        # Whatever matplotlibrc the user has is for the user's own charts.
        rcdefaults()
        rcParams.update(_settings(colours) | {name.replace("_", ".", 1): value for name, value in settings.items()})
        figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), facecolor=colours.page)
        # The same margins for all: charts beside one another line up, and no layout is searched for.
        figure.subplots_adjust(left=0.11, right=0.985, top=0.9 if with_titles else 0.965, bottom=0.155)
        axes = figure.subplots()
        for band in chart.bands:
            axes.fill_between(band.x[axis], band.low, band.high, color=colours.band, alpha=0.14, linewidth=0)
        handles = [_draw_series(axes, series, axis, colours) for series in chart.series]
        _finish(axes, chart, axis)
        if with_titles:
            axes.set_title(printable(chart.heading), loc="left")
            if len(handles) > 1:
                axes.legend(handles, [printable(series.name) for series in chart.series])
        yield figure


def _settings(colours: Colours) -> Any:
    return {
        "font.size": 9,
        "text.color": colours.text,
        "text.parse_math": False,
        "axes.labelcolor": colours.text,
        "axes.edgecolor": colours.grid,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "grid.color": colours.grid,
        "grid.linewidth": 0.8,
        "xtick.color": colours.text,
        "ytick.color": colours.text,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "legend.frameon": False,
        "legend.fontsize": 8,
    }


def _draw_series(axes: "Axes", series: Series, axis: str, colours: Colours) -> Any:
    """What matplotlib made of a series."""
    x, y, colour = series.x[axis], series.y, colours.of(series.colour)
    if series.error is not None:
        axes.errorbar(x, y, yerr=series.error, fmt="none", ecolor=colours.text, elinewidth=1.1, capsize=3, zorder=3)
    if series.style == "bars":
        return axes.bar(x, y, width=0.74, color=colour)
    if series.style == "scatter":
        return axes.scatter(x, y, s=9, color=colour, alpha=0.45, linewidths=0)
    dash: Any = (0, (2, 2)) if series.style == "reference" else _DASHES[(series.colour - 1) % len(_DASHES)]
    width = {"thin": 0.9, "reference": 1.1}.get(series.style, 1.6)
    alpha = 0.55 if series.style == "thin" else 1.0
    marker: Any = {"marker": "o", "markersize": 4} if series.style == "points" else {}
    (line,) = axes.plot(x, y, color=colour, linewidth=width, alpha=alpha, linestyle=dash, **marker)
    return line


def _finish(axes: "Axes", chart: Chart, axis: str) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

    axes.set_xlabel(chart.x_titles[axis])
    low, high = chart.limits
    axes.set_ylim(bottom=low, top=high)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=_ROUND, integer=chart.form == "count"))
    if chart.form == "percent":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))
    elif chart.form == "plain":
        axes.yaxis.set_major_formatter(FuncFormatter(_plain))
    else:
        axes.yaxis.set_major_formatter(EngFormatter(sep=" ", places=None))
    if chart.x_ticks:
        axes.set_xticks(range(len(chart.x_ticks)), [_short(name) for name in chart.x_ticks])
        axes.grid(visible=False, axis="x")
    elif axis == "time":
        _tick_time(axes)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=_ROUND, integer=axis == "steps"))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{100 * value:.4g} %")
            if chart.x_form == "percent"
            else EngFormatter(sep=" ", places=None)
            if axis in ("steps", "tokens")
            else FuncFormatter(_plain)
        )


def _tick_time(axes: "Axes") -> None:
    """Seconds as they come, or in minutes or hours where there are many; the axis says which."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    longest = max(axes.get_xlim()[1], 1e-9)
    size, name = (3600, "hours") if longest >= 7200 else (60, "minutes") if longest >= 120 else (1, "seconds")
    axes.xaxis.set_major_locator(MultipleLocator(size * nice_step(longest / size, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / size:g}"))
    axes.set_xlabel(name)


def nice_step(length: float, count: int) -> float:
    """1, 2 or 5 times a power of ten, so that at most some `count` of it make up `length`."""
    least = length / count
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= least * 0.999)


def _plain(value: float, _: object) -> str:
    text = f"{value:.4g}"
    if 0 < abs(value) < 1e-3:
        # 5e-4 beside 1e-4, and not 0.0005 beside 5e-05.
        mantissa, exponent = f"{value:.3e}".split("e")
        text = f"{float(mantissa):g}e{int(exponent)}"
    return text.replace("-", "\u2212")


def _short(name: str, most: int = 14) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def constant(name: str, value: float, over: Mapping[str, Values], colour: int = 0) -> Series:
    """A level to hold curves against, as long as the longest of them."""
    return Series(name, {axis: _ends(x) for axis, x in over.items()}, np.full(2, value), "reference", colour)


def _ends(x: Values) -> Values:
    # Of a run without a log no tokens are known.
    known = x[np.isfinite(x)]
    return np.array([known.min(), known.max()]) if len(known) else np.full(2, np.nan)
