"""The curves of a run as PNG and SVG files, for a model card, a paper or a wiki."""

from io import BytesIO
from pathlib import Path
from typing import Final

from bertkit.workflows.report.charts import ON_PAPER, Chart, drawn
from bertkit.workflows.report.curves import Logged, finetuning_charts, optimisation_charts, pretraining_charts
from bertkit.workflows.report.finetuning import figures_of, forms_of
from bertkit.workflows.report.subjects import Subject, read_subjects, title_of_pairs
from bertkit.workflows.runs import RunFolder, kept_whole

PLOTS_FOLDER: Final = "plots"
_DOTS_AN_INCH: Final = 160
# The same numbers give the same bytes.
_NO_DATE: Final = {"png": {"Software": None}, "svg": {"Date": None}}


def write_plots(run: RunFolder, folder: Path | None = None) -> list[Path]:
    """Writes *.png and *.svg over steps to RUN/plots or `folder`; training.png, the first, says most.

    A run that has logged nothing has no plots.

    Raises:
        CheckpointError: a file of the run is damaged, or a plot cannot be written.
    """
    (subject,) = read_subjects([run.path])
    charts = _charts(subject)
    names = ["training", *(chart.key for chart in charts[1:])]
    folder = folder or run.path / PLOTS_FOLDER
    return [path for name, chart in zip(names, charts, strict=False) for path in _write(folder, name, chart)]


def training_plot(run: RunFolder) -> bytes | None:
    """What `write_plots` writes as training.png, of what the run has logged by now; None where that is nothing.

    Raises:
        CheckpointError: a file of the run is damaged.
    """
    (subject,) = read_subjects([run.path])
    picture = BytesIO()
    for chart in _charts(subject)[:1]:
        with drawn(chart, next(iter(chart.x_titles)), ON_PAPER, with_titles=True) as figure:
            figure.savefig(picture, format="png", dpi=_DOTS_AN_INCH, metadata=_NO_DATE["png"])
    return picture.getvalue() or None


def _charts(subject: Subject) -> list[Chart]:
    logged = [Logged(subject.name, subject.history)]
    if subject.is_finetuning:
        figures = figures_of(subject)
        return [*finetuning_charts(logged, figures, forms_of(figures)), *optimisation_charts(logged)]
    return [*pretraining_charts(logged, pairs=title_of_pairs([subject])), *optimisation_charts(logged)]


def _write(folder: Path, name: str, chart: Chart) -> list[Path]:
    written = []
    with drawn(chart, next(iter(chart.x_titles)), ON_PAPER, with_titles=True, svg_hashsalt=name) as figure:
        for ending, metadata in _NO_DATE.items():
            path = folder / f"{name}.{ending}"
            with kept_whole(path) as aside:
                figure.savefig(aside, format=ending, dpi=_DOTS_AN_INCH, metadata=metadata)
            written.append(path)
    return written
