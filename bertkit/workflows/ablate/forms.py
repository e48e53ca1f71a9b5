"""The table as text: for a terminal, for Markdown, for a spreadsheet."""

import csv
import io
from typing import Final

from bertkit.config.ablate import parse_budget
from bertkit.workflows.ablate.paper import PUBLISHED, Published
from bertkit.workflows.ablate.results import COLLAPSED, AblationResults, ColumnResults, Figure, Got, RowResults

PLUS_MINUS: Final = "\u00b1"
EMPTY: Final = "-"

Grid = tuple[tuple[str, ...], list[tuple[str, ...]]]


def own_grid(results: AblationResults) -> Grid:
    """The head and the lines of the table itself, in the paper's form, means with their deviations."""
    perplexity = ("LM (ppl)",) if results.shows_perplexity else ()
    head = (*results.labels, *perplexity, *(with_metric(c.title, c.metric) for c in results.columns))
    return head, [_own_row(results, row) for row in results.rows]


def _own_row(results: AblationResults, row: RowResults) -> tuple[str, ...]:
    perplexity = (_perplexity(row.got),) if results.shows_perplexity else ()
    figures = (shown(row.figures.get(column.key), results.runs_a_figure) for column in results.columns)
    return (*row.cells, *perplexity, *figures)


def shown(figure: Figure | None, wanted: int) -> str:
    """`78.3 ± 1.2`; with how many runs it is of, where that is not all of them; a dash for nothing."""
    if figure is None:
        return EMPTY
    deviation = "" if figure.deviation is None else f" {PLUS_MINUS} {figure.deviation:.1f}"
    collapsed = f" {COLLAPSED}" if figure.collapsed else ""
    some = f" ({len(figure.values)} of {wanted})" if len(figure.values) < wanted else ""
    return f"{figure.mean:.1f}{deviation}{collapsed}{some}"


def got_grid(results: AblationResults) -> Grid:
    """What the model of each row was given."""
    head = (*results.labels, "steps", "tokens", "minutes", "parameters", "held-out perplexity")
    rows = []
    for row in results.rows:
        got = row.got
        cells = (EMPTY,) * 5
        if got is not None:
            parameters = EMPTY if got.parameters is None else f"{got.parameters / 1e6:,.1f} M"
            tokens = f"{got.tokens / 1e6:,.2f} M"
            cells = (f"{got.steps:,.0f}", tokens, f"{got.minutes:,.2f}", parameters, _perplexity(got))
        rows.append((*row.cells, *cells))
    return head, rows


def paper_grid(results: AblationResults) -> Grid | None:
    """The paper's own figures, whole; None where it printed none."""
    published = _published(results)
    if not published.rows:
        return None
    perplexity = ("LM (ppl)",) if published.perplexity else ()
    head = ("", *perplexity, *(with_metric(*column) for column in published.columns.values()))
    rows = [
        (
            words,
            *((f"{published.perplexity[key]:.2f}",) if published.perplexity else ()),
            *(EMPTY if figure is None else f"{figure:.1f}" for figure in figures),
        )
        for key, (words, figures) in published.rows.items()
    ]
    return head, rows


def to_markdown(results: AblationResults) -> str:
    """table.md: the table, what every model got, the paper's figures, and the notes."""
    parts = [f"# {results.title}", _lead(results), _markdown(own_grid(results))]
    parts += [f"- {note}" for note in results.notes[:1]]
    parts += ["\n".join(f"- {note}" for note in results.notes[1:])] if results.notes[1:] else []
    parts += ["## What every model got", _markdown(got_grid(results))]
    published, grid = _published(results), paper_grid(results)
    parts += ["## What the paper published", f"{published.source}."]
    parts += [_markdown(grid)] if grid is not None else []
    parts += ["\n".join(f"- {finding}" for finding in published.findings)]
    return "\n\n".join(parts) + "\n"


def to_csv(results: AblationResults) -> str:
    """table.csv: a line a row and column of the table, with the paper's figure where it has one."""
    published = _published(results)
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("row", *results.labels, "column", "figure", "mean", "deviation", "runs", "collapsed", "paper"))
    for row in results.rows:
        for column in results.columns:
            figure = row.figures.get(column.key)
            values: tuple[object, ...] = ("", "", 0, 0)
            if figure is not None:
                deviation = "" if figure.deviation is None else f"{figure.deviation:.4f}"
                values = (f"{figure.mean:.4f}", deviation, len(figure.values), figure.collapsed)
            paper = paper_figure(published, row.key, column)
            writer.writerow((row.key, *row.cells, column.key, column.metric, *values, "" if paper is None else paper))
    return file.getvalue()


def paper_figure(published: Published, row: str, column: ColumnResults) -> float | None:
    """The paper's figure for a row and a column of ours; None where it has none, or one of another metric."""
    if row not in published.rows or column.key not in published.columns:
        return None
    if column.metric not in ("", published.columns[column.key][1].lower()):
        return None
    return published.rows[row][1][list(published.columns).index(column.key)]


def _lead(results: AblationResults) -> str:
    state = "" if results.is_complete else f" {results.done:,} of {results.total:,} cells are finished."
    return f"Every model pre-trained for {parse_budget(results.budget).words}; after {results.source}.{state}"


def _published(results: AblationResults) -> Published:
    return PUBLISHED[results.table]


def with_metric(title: str, metric: str) -> str:
    """The head of a column with its figure, once that is known."""
    return f"{title} ({metric.replace('_', ' ')})" if metric else title


def _perplexity(got: Got | None) -> str:
    return EMPTY if got is None or got.perplexity is None else f"{got.perplexity:,.2f}"


def _markdown(grid: Grid) -> str:
    head, rows = grid
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
