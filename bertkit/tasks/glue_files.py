"""Tab-separated files of GLUE's original layout: literal quotes, a byte-order mark, and rows that are broken."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bertkit.errors import TaskError
from bertkit.tasks.labels import label_of
from bertkit.tasks.spec import Example, GlueFiles, TaskSpec
from bertkit.tasks.text_files import name_some, read_lines

logger = logging.getLogger(__name__)

# QQP's training file has a few rows that were cut; a file with more of them is another kind of file.
MAX_BROKEN_SHARE: Final = 0.1
KEY_COLUMNS: Final = ("index", "id")


@dataclass(frozen=True)
class _Columns:
    """The columns of one file by name, and which of them hold the texts, the label and the key."""

    names: tuple[str, ...]
    texts: tuple[int, ...]
    label: int | None
    key: int | None


def read_glue(path: Path, spec: TaskSpec, files: GlueFiles, *, split: str) -> list[Example]:
    """The examples of one file; rows with the label "-" are left without one.

    A row's key is its index column in files to predict, otherwise its number from 0, as on the Hub. Columns are handed
    on where a split is scored or predicted: the parses of MNLI's training rows alone would fill half a gigabyte.

    Raises:
        TaskError: a column is missing, a label unknown, a key given twice, or too many rows are broken.
    """
    lines = read_lines(path)
    to_predict = split in spec.splits.predict
    has_header = files.has_header or to_predict
    columns = _find_columns(path, lines[0].split("\t"), spec, files, to_predict=to_predict)
    examples: list[Example] = []
    broken: list[int] = []
    row_number = 0
    for line_number, line in enumerate(lines[has_header:], start=1 + has_header):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) == len(columns.names):
            place = f"{path.parent.name}/{path.name}:{line_number}"
            examples.append(_example(cells, columns, spec, place=place, number=row_number, keep=split != "train"))
        else:
            broken.append(line_number)
        row_number += 1
    _judge_broken(path, broken, of=row_number, width=len(columns.names), to_predict=to_predict)
    if columns.key is not None:
        _refuse_double_keys(path, examples, column=columns.names[columns.key])
    return examples


def _find_columns(path: Path, first: Sequence[str], spec: TaskSpec, files: GlueFiles, *, to_predict: bool) -> _Columns:
    if not (files.has_header or to_predict):
        names = tuple(map(str, range(len(first))))
        texts, label = [str(text) for text in files.texts], str(files.label)
    else:
        names = tuple(name.strip() for name in first)
        texts = [
            text if isinstance(text, str) else of_hub for text, of_hub in zip(files.texts, spec.texts, strict=True)
        ]
        label = str(files.label)
    needed = [*texts, *spec.columns, *([] if to_predict or files.label is None else [label])]
    for name in needed:
        if name not in names:
            raise TaskError(
                f"{path}:1 has no column {name!r}; it has {', '.join(map(repr, names))}, separated by tabs: give the "
                f"folder {files.folder} of {files.download}"
            )
    key = next((names.index(name) for name in KEY_COLUMNS if name in names), None) if to_predict else None
    return _Columns(
        names, tuple(names.index(text) for text in texts), names.index(label) if label in names else None, key
    )


def _example(
    cells: Sequence[str], columns: _Columns, spec: TaskSpec, *, place: str, number: int, keep: bool
) -> Example:
    label = None if columns.label is None else label_of(spec, cells[columns.label].strip(), place=place)
    return Example(
        key=str(number) if columns.key is None else cells[columns.key],
        place=place,
        texts=tuple(cells[column].strip() for column in columns.texts),
        label=label,
        columns=dict(zip(columns.names, cells, strict=True)) if keep else {},
    )


def _judge_broken(path: Path, broken: list[int], *, of: int, width: int, to_predict: bool) -> None:
    if not of:
        raise TaskError(f"{path} has a header and no rows: download it again")
    if not broken:
        return
    told = f"{path} has {len(broken)} of {of} rows without its {width} columns (line {name_some(broken)})"
    if to_predict:
        raise TaskError(f"{told}: a leaderboard wants every row, so download the file again")
    if len(broken) > MAX_BROKEN_SHARE * of:
        raise TaskError(f"{told}: separate the columns by tabs, or download the file again")
    logger.warning("%s", f"{told}: they are left out")


def _refuse_double_keys(path: Path, examples: list[Example], *, column: str) -> None:
    seen: dict[str, str] = {}
    for example in examples:
        if example.key in seen:
            raise TaskError(
                f"{example.place} has the {column} {example.key!r} of {seen[example.key]}: download {path.name} again"
            )
        seen[example.key] = example.place
