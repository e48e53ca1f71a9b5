"""report.html of a comparison: the table, the paper's beside it, and the plots, in one page that loads nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bertkit.config.ablate import parse_budget
from bertkit.errors import BertkitError
from bertkit.hub.places import without_places
from bertkit.workflows.ablate.forms import got_grid, paper_grid, shown, with_metric
from bertkit.workflows.ablate.paper import PUBLISHED
from bertkit.workflows.ablate.pictures import column_pictures, paper_pictures
from bertkit.workflows.ablate.plan import AblationPlan
from bertkit.workflows.ablate.results import AblationResults, RowResults
from bertkit.workflows.report import facts
from bertkit.workflows.report.blocks import Block, Cell, Chapter, Note, Number, Row, Section, Table
from bertkit.workflows.report.curves import Logged, pretraining_charts
from bertkit.workflows.report.render import render
from bertkit.workflows.report.subjects import read_subjects, title_of_pairs
from bertkit.workflows.report.svg import picture
from bertkit.workflows.runs import RunFolder, kept_whole

REPORT_FILE: Final = "report.html"


def write_report(plan: AblationPlan, results: AblationResults) -> Path:
    """Writes OUT/report.html of what is finished.

    Raises:
        CheckpointError: it cannot be written.
    """
    path = plan.path / REPORT_FILE
    with kept_whole(path) as aside, aside.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(render(results.title, [_chapter(plan, results)]))
    return path


def _chapter(plan: AblationPlan, results: AblationResults) -> Chapter:
    sections = [
        Section("Table", _table_blocks(results), f"After {results.source}."),
        Section("What the paper published", _paper_blocks(results), f"{PUBLISHED[results.table].source}."),
        Section("Pre-training", _pretraining_blocks(plan, results)),
        Section("Every run", [_runs_table(results), _settings_table(plan)]),
    ]
    state = "complete" if results.is_complete else f"{results.done:,} of {results.total:,} cells finished"
    subtitle = f"Every model pre-trained for {parse_budget(results.budget).words} · {state}"
    return Chapter(results.title, results.title, subtitle, sections)


def _table_blocks(results: AblationResults) -> list[Block]:
    blocks: list[Block] = []
    if not results.is_complete:
        missing = results.total - results.done
        blocks.append(
            Note(f"{missing:,} of {results.total:,} cells are not finished: the same command goes on.", "warning")
        )
    perplexity = ("LM perplexity",) if results.shows_perplexity else ()
    heads = [with_metric(column.title, column.metric) for column in results.columns]
    rows = [_row(results, row) for row in results.rows]
    blocks.append(Table(results.title, (*results.labels, *perplexity, *heads), rows))
    blocks += [Note(note) for note in results.notes]
    return [*blocks, Row(column_pictures(results))]


def _row(results: AblationResults, row: RowResults) -> list[Cell]:
    cells: list[Cell] = list(row.cells)
    if results.shows_perplexity:
        known = row.got.perplexity if row.got else None
        cells.append(None if known is None else Number(f"{known:,.2f}", known))
    for column in results.columns:
        figure = row.figures.get(column.key)
        cells.append(None if figure is None else Number(shown(figure, results.runs_a_figure), figure.mean))
    return cells


def _paper_blocks(results: AblationResults) -> list[Block]:
    blocks: list[Block] = []
    if (grid := paper_grid(results)) is not None:
        blocks.append(Table("The paper's figures", grid[0], grid[1]))
    blocks += [Note(finding) for finding in PUBLISHED[results.table].findings]
    return [*blocks, Row(paper_pictures(results), narrow=True)] if grid is not None else blocks


def _pretraining_blocks(plan: AblationPlan, results: AblationResults) -> list[Block]:
    head, rows = got_grid(results)
    blocks: list[Block] = [Table("What every model got", head, rows)]
    begun = [model.path for model in plan.models if RunFolder(model.path).metrics_file.is_file()]
    try:
        subjects = read_subjects(begun) if begun else []
    except BertkitError as error:
        return [*blocks, Note(f"The curves cannot be drawn: {error}.", "warning")]
    logged = [Logged(subject.name, subject.history) for subject in subjects]
    charts = pretraining_charts(logged, pairs=title_of_pairs(subjects)) if logged else []
    return [*blocks, Row([picture(chart, "models") for chart in charts])] if charts else blocks


def _runs_table(results: AblationResults) -> Table:
    rows: list[Sequence[Cell]] = [
        (" / ".join(row.cells), column.title, key.rpartition("/")[2], Number(f"{value:.2f}", value))
        for row in results.rows
        for column in results.columns
        if column.key in row.figures
        for key, value in row.figures[column.key].values.items()
    ]
    return Table("Every fine-tuning run", ("row", "column", "run", "figure"), rows, shown=0)


def _settings_table(plan: AblationPlan) -> Table:
    values = without_places(plan.config.model_dump(mode="json"))
    rows: list[Sequence[Cell]] = [(key, facts.shown(value)) for key, value in facts.flat(values).items()]
    return Table("Settings", ("setting", "value"), rows, "Of all cells alike, but for what the table varies.", shown=0)
