"""A chart as a block of a page: SVG whose colours are the page's, values to hover over, and a table of them."""

import io
import json
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from bertkit.workflows.report.blocks import Cell, Key, Number, Picture, Table
from bertkit.workflows.report.charts import Chart, Colours, Series, drawn
from bertkit.workflows.report.history import Values

# Colours that nobody would choose: each stands for a variable of the page's style sheet.
_NAMES: Final = {"text": "#010101", "grid": "#010102", "reference": "#010103", "band": "#010104"}
_SERIES: Final = [f"#0101a{number}" for number in range(1, 7)]
_ON_PAGE: Final = Colours(**_NAMES, series=_SERIES)
_VARIABLES: Final = {
    **{colour: f"var(--chart-{name})" for name, colour in _NAMES.items()},
    **{colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, start=1)},
}
_ROWS_OF_TABLE: Final = 24
_FONT_FAMILY: Final = re.compile(r" font-family: [^;\"]*;?")
_IDS: Final = re.compile(r' id="([^"]*)"')
_ATTRIBUTES: Final = re.compile(r'="[^"]*"')
_DECIMALS: Final = re.compile(r"(\d+\.\d{2})\d+")


def picture(chart: Chart, salt: str) -> Picture:
    """The chart over each of its axes; `salt` sets its names apart from those of all other charts of a page."""
    svgs, boxes = {}, {}
    for axis in chart.x_titles:
        svgs[axis], boxes[axis] = _svg(chart, axis, f"{salt}-{chart.key}-{axis}")
    keys = [Key(series.name, _number(series), series.style) for series in chart.series]
    keys += [Key(band.name, 0, "band") for band in chart.bands[:1]]
    hover = json.dumps(
        {
            "form": chart.form,
            "ticks": list(chart.x_ticks),
            "axes": boxes,
            "series": [_hover(series) for series in chart.series if series.style not in ("scatter", "reference")],
        },
        separators=(",", ":"),
    )
    return Picture(chart.heading, svgs, hover, keys, _table(chart), chart.note)


def _number(series: Series) -> int:
    return 0 if series.colour == 0 else (series.colour - 1) % len(_SERIES) + 1


def _svg(chart: Chart, axis: str, salt: str) -> tuple[str, dict[str, Any]]:
    """The drawing, and where in it which values lie."""
    buffer = io.StringIO()
    with drawn(chart, axis, _ON_PAGE, svg_fonttype="none", svg_hashsalt=salt) as figure:
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    (axes,) = figure.axes
    box, height = axes.get_window_extent(), figure.bbox.height
    scale = 72 / figure.dpi
    corners = [box.x0 * scale, (height - box.y1) * scale, box.x1 * scale, (height - box.y0) * scale]
    place = {
        "box": [round(each, 1) for each in corners],
        "x": list(map(float, axes.get_xlim())),
        "y": list(map(float, axes.get_ylim())),
        "title": axes.get_xlabel(),
    }
    return _for_page(buffer.getvalue()), place


def _for_page(svg: str) -> str:
    """What is left when all is gone that a page has already: names nobody refers to, fonts, sizes in points."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', 'class="drawing" aria-hidden="true"', svg, count=1)
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', svg))
    svg = _IDS.sub(lambda found: found[0] if found[1] in used else "", svg)
    svg = _FONT_FAMILY.sub("", svg)
    svg = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", svg)
    svg = _ATTRIBUTES.sub(lambda found: _DECIMALS.sub(r"\1", found[0]), svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return re.sub(r"\s*\n\s*", " ", svg).replace("> <", "><")


def _hover(series: Series) -> dict[str, Any]:
    return {
        "name": series.name,
        "colour": _number(series),
        "y": _rounded(series.y),
        "x": {axis: _rounded(values) for axis, values in series.x.items()},
    }


def _rounded(values: Values) -> list[float | None]:
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]


def _table(chart: Chart) -> Table:
    """The values at some places of the first axis, one column a series."""
    shown = [series for series in chart.series if series.style not in ("scatter", "reference")]
    levels = [series for series in chart.series if series.style == "reference" and series.y[0] == series.y[-1]]
    axis = next(iter(chart.x_titles))
    places = sorted({float(x) for series in shown for x in series.x[axis]})
    chosen = _some(places, _ROWS_OF_TABLE)
    rows: list[list[Cell]] = [
        [_place(chart, place), *(_value_at(series, axis, place, chart.form) for series in shown)] for place in chosen
    ]
    note = "; ".join(f"{series.name}: {written(float(series.y[0]), chart.form)}" for series in levels)
    if len(chosen) < len(places):
        note = f"{len(chosen)} of {len(places)} places" + (f"; {note}" if note else "")
    return Table(chart.heading, (chart.x_titles[axis], *(series.name for series in shown)), rows, note)


def _place(chart: Chart, place: float) -> Cell:
    if chart.x_ticks:
        return chart.x_ticks[round(place)]
    return Number(written(place, chart.x_form) if chart.x_form == "percent" else f"{place:,.10g}", place)


def _some(places: Sequence[float], count: int) -> list[float]:
    """Up to `count` of the places, evenly spread, first and last among them."""
    if len(places) <= count:
        return list(places)
    return [places[number] for number in np.linspace(0, len(places) - 1, count).round().astype(int)]


def _value_at(series: Series, axis: str, place: float, form: str) -> Cell:
    found = np.flatnonzero(series.x[axis] == place)
    return Number(written(float(series.y[found[0]]), form), float(series.y[found[0]])) if len(found) else None


def written(value: float, form: str) -> str:
    """A value of a chart as people read it."""
    if form == "percent":
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if form == "count" else f"{value:.4g}"
