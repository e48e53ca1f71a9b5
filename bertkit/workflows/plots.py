"""The curves of a run as PNG and SVG files, for a model card, a paper or a wiki."""

from pathlib import Path
from typing import Final

from bertkit.workflows.report.charts import ON_PAPER, Chart, drawn
from bertkit.workflows.report.curves import Logged, finetuning_charts, optimisation_charts, pretraining_charts
from bertkit.workflows.report.finetuning import figures_of, forms_of
from bertkit.workflows.report.subjects import Subject, read_subjects
from bertkit.workflows.runs import RunFolder, kept_whole

PLOTS_FOLDER: Final = "plots"
_DOTS_AN_INCH: Final = 160


def write_plots(run: RunFolder) -> list[Path]:
    """Writes RUN/plots/*.png and *.svg over steps, the one that says most as training.png, which comes first.

    A run that has logged nothing has no plots.

    Raises:
        CheckpointError: a file of the run is damaged, or a plot cannot be written.
    """
    (subject,) = read_subjects([run.path])
    charts = _charts(subject)
    names = ["training", *(chart.key for chart in charts[1:])]
    return [path for name, chart in zip(names, charts, strict=False) for path in _write(run, name, chart)]


def _charts(subject: Subject) -> list[Chart]:
    logged = [Logged(subject.name, subject.history)]
    if subject.is_finetuning:
        figures = figures_of(subject)
        return [*finetuning_charts(logged, figures, forms_of(figures)), *optimisation_charts(logged)]
    return [*pretraining_charts(logged), *optimisation_charts(logged)]


def _write(run: RunFolder, name: str, chart: Chart) -> list[Path]:
    written = []
    # The same numbers give the same bytes: no date, no random names.
    with drawn(chart, next(iter(chart.x_titles)), ON_PAPER, with_titles=True, svg_hashsalt=name) as figure:
        for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            path = run.path / PLOTS_FOLDER / f"{name}.{ending}"
            with kept_whole(path) as aside:
                figure.savefig(aside, format=ending, dpi=_DOTS_AN_INCH, metadata=metadata)
            written.append(path)
    return written
