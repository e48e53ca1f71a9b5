"""From run folders to report.html, and the plots beside it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bertkit.errors import CheckpointError, ConfigError
from bertkit.workflows.plots import write_plots
from bertkit.workflows.report.blocks import Chapter
from bertkit.workflows.report.comparison import comparison_chapter
from bertkit.workflows.report.finetuning import finetuning_chapter
from bertkit.workflows.report.pretraining import pretraining_chapter
from bertkit.workflows.report.render import render
from bertkit.workflows.report.subjects import Subject, find_runs, read_subjects
from bertkit.workflows.runs import kept_whole
from bertkit.workflows.several import COMPARISON_FILE
from bertkit.workflows.watch import Unwatched, Watcher

logger = logging.getLogger(__name__)

REPORT_FILE: Final = "report.html"


@dataclass(frozen=True)
class ReportSummary:
    """Where the page is, which runs it is about, and the plots that were written beside them."""

    path: Path
    runs: tuple[Path, ...]
    plots: tuple[Path, ...]


def write_report(
    paths: Sequence[Path] = (), *, output: Path | None = None, watch: Watcher | None = None
) -> ReportSummary:
    """Writes one page about the runs in `paths`, which may be folders of runs; about the newest run for none.

    Without `output` it is report.html in the folder of the run, or of the runs, or, for several, here. The plots of
    every run are written to its folder plots.

    Raises:
        ConfigError: a folder is not there, or holds no run.
        CheckpointError: a file of a run is damaged, or the page cannot be written.
    """
    watch = watch or Unwatched()
    folders = find_runs(paths)
    subjects = read_subjects(folders)
    output = _place(output, paths, folders)
    if output.name == REPORT_FILE and (output.parent / COMPARISON_FILE).is_file():
        raise ConfigError(f"{output} is the report of a comparison, by bertkit ablate: name another page with --output")
    title = _title(paths, subjects)
    chapters = []
    if len(subjects) > 1:
        chapters.append(comparison_chapter(subjects, title, "all"))
    for number, subject in enumerate(subjects, start=1):
        watch.begin(f"run {number} of {len(subjects)}: {subject.name}")
        chapters.append(_chapter(subject, f"run{number}"))
    with kept_whole(output) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(render(title, chapters))
    return ReportSummary(output, tuple(folders), tuple(_plots(subjects)))


def _chapter(subject: Subject, salt: str) -> Chapter:
    return (finetuning_chapter if subject.is_finetuning else pretraining_chapter)(subject, salt)


def _title(paths: Sequence[Path], subjects: Sequence[Subject]) -> str:
    if len(subjects) == 1:
        return subjects[0].name
    return f"{paths[0].resolve().name}: {len(subjects)} runs" if len(paths) == 1 else f"{len(subjects)} runs"


def _place(output: Path | None, paths: Sequence[Path], folders: Sequence[Path]) -> Path:
    """The file to write.

    Raises:
        ConfigError: its name is not that of a page; it may be that of a file of the run.
    """
    if output is not None and output.is_dir():
        return output / REPORT_FILE
    if output is not None:
        if output.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"--output {output} is no name for a page: call it {output.with_suffix('.html').name}")
        return output
    if len(folders) == 1:
        return folders[0] / REPORT_FILE
    return (paths[0] if len(paths) == 1 else Path()) / REPORT_FILE


def _plots(subjects: Sequence[Subject]) -> list[Path]:
    """The plots of every run; a folder that may only be read does without."""
    written: list[Path] = []
    for subject in subjects:
        try:
            written += write_plots(subject.run)
        except CheckpointError as error:
            logger.warning("%s", error)
    return written
