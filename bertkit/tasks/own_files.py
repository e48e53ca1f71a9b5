"""The user's own labelled files as examples: tables of every kind, CoNLL columns, SQuAD's JSON."""

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Final

from bertkit.errors import TaskError
from bertkit.tasks.columns import Columns as Columns
from bertkit.tasks.columns import Header, complete
from bertkit.tasks.conll import read_conll
from bertkit.tasks.label_values import RowError, problem_of_labels
from bertkit.tasks.label_values import label_names as label_names
from bertkit.tasks.own_rows import example_of, label_cell
from bertkit.tasks.spec import Example, ProblemName
from bertkit.tasks.splitting import split_examples as split_examples
from bertkit.tasks.squad_json import read_squad
from bertkit.tasks.table import BrokenRow as BrokenRow
from bertkit.tasks.table import TableRow, find_file, format_of, is_json_array, read_table

logger = logging.getLogger(__name__)

# Rows looked at to know the columns: a row of .jsonl may leave some out.
ROWS_LOOKED_AT: Final = 100
ROWS_NAMED: Final = 5


def read_examples(path: str | Path, problem: ProblemName, columns: Columns = Columns()) -> list[Example]:  # noqa: B008
    """Every labelled example of a file, in order; an empty cell of the label is None, which the check tells.

    Raises:
        TaskError: the file, one of its columns or any of its rows cannot be used; names them and the remedy.
    """
    examples, broken = [], []
    for example in _examples(str(path), problem, columns, with_labels=True):
        if isinstance(example, BrokenRow):
            broken.append(example)
        else:
            examples.append(example)
    if broken:
        raise TaskError(_broken_in_words(broken))
    if not examples:
        raise TaskError(f"{Path(path).name} has no rows: give a file with one row an example")
    return examples


def stream_examples(
    path: str | Path,
    problem: ProblemName,
    columns: Columns = Columns(),  # noqa: B008
) -> Generator[Example | BrokenRow, None, None]:
    """The examples of a file to predict, one at a time; a label is None where there is none, or none that can be read.

    A row that cannot be used comes as `BrokenRow`, in its turn, with what could be read of it.
    Raises TaskError where the file as a whole cannot be used.
    """
    return _examples(str(path), problem, columns, with_labels=False)


def resolve_columns(
    path: str | Path,
    problem: ProblemName,
    columns: Columns = Columns(),  # noqa: B008
    *,
    with_labels: bool = True,
) -> Columns:
    """The columns of a table, those left open guessed from its first rows; to be kept, so that prediction repeats them.

    Raises TaskError when one is not there, or may be one of several.
    """
    name = Path(path).name
    with closing(read_table(str(path), asked=columns.asked())) as rows:
        first = list(islice(rows, ROWS_LOOKED_AT))
    readable = [row.columns for row in first if isinstance(row, TableRow)]
    if not readable:
        broken = [row for row in first if isinstance(row, BrokenRow)]
        raise TaskError(_broken_in_words(broken) if broken else f"{name} has no rows: give one row an example")
    return complete(columns, problem, Header.of(name, readable), with_labels=with_labels)


def detect_problem(path: str | Path, columns: Columns = Columns()) -> ProblemName:  # noqa: B008
    """Which of classification, regression and multi_label the labels of a file mean; classification in doubt.

    Raises TaskError when the file cannot be read or its label column is not known.
    """
    resolved = resolve_columns(path, "classification", columns)
    with closing(read_table(str(path), asked=columns.asked())) as rows:
        found = problem_of_labels(_label_cells(rows, resolved), num_columns=_num_label_columns(path, columns, resolved))
    logger.info(
        "%s", f"{Path(path).name}: taken as {found.problem}, for {found.reason}; set task.problem to say otherwise"
    )
    return found.problem


def _examples(
    path: str, problem: ProblemName, columns: Columns, *, with_labels: bool
) -> Generator[Example | BrokenRow, None, None]:
    source = find_file(path)
    file_format = format_of(source.name)
    if problem == "tagging" and file_format in (None, "tsv"):
        yield from read_conll(Path(path), **_conll_columns(columns, source.name))
    elif problem == "tagging" and file_format == "csv":
        raise TaskError(
            f"{source.name} is a .csv, and tags come a word a line with blank lines between sentences (.conll, .tsv), "
            "or as lists of words and of tags (.jsonl, .parquet): convert it to one of these"
        )
    elif problem == "span_qa" and file_format == "json" and not is_json_array(source):
        yield from read_squad(Path(path))
    else:
        yield from _table_examples(path, problem, columns, with_labels=with_labels)


def _table_examples(
    path: str, problem: ProblemName, columns: Columns, *, with_labels: bool
) -> Generator[Example | BrokenRow, None, None]:
    resolved = resolve_columns(path, problem, columns, with_labels=with_labels)
    with closing(read_table(path, asked=columns.asked())) as rows:
        for row in rows:
            if isinstance(row, TableRow):
                yield example_of(row, problem, resolved, with_labels=with_labels)
            else:
                yield row


def _conll_columns(columns: Columns, name: str) -> dict[str, Any]:
    """The numbers of the columns of words and of tags, where they are given."""
    given = {"word_column": columns.texts[0] if columns.texts else None, "tag_column": columns.label}
    try:
        return {option: int(number) for option, number in given.items() if number is not None}
    except ValueError:
        raise TaskError(
            f"{name} is read as columns, a word a line, so --text and --label are their numbers: "
            "count from 0, or from the end with -1"
        ) from None


def _label_cells(rows: Iterator[TableRow | BrokenRow], columns: Columns) -> Iterator[Any]:
    for row in rows:
        if isinstance(row, TableRow):
            try:
                yield label_cell(row.columns, columns)
            except RowError:
                continue


def _num_label_columns(path: str | Path, columns: Columns, resolved: Columns) -> int:
    with closing(read_table(str(path), asked=columns.asked())) as rows:
        first = next((row.columns for row in rows if isinstance(row, TableRow)), {})
    return len(resolved.label_columns(first))


def _broken_in_words(broken: Sequence[BrokenRow]) -> str:
    first, others = broken[0], broken[1:]
    if not others:
        return str(first)
    named = ", ".join(row.place for row in others[:ROWS_NAMED])
    more = f" and {len(others) - ROWS_NAMED:,} more" if len(others) > ROWS_NAMED else ""
    return f"{first} (rows that cannot be used either: {named}{more})"
