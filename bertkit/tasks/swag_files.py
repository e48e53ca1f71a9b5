"""SWAG's rows: endings with the number of the right one, or the full format with the right one and its distractors."""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bertkit.errors import TaskError
from bertkit.tasks.spec import Example
from bertkit.tasks.text_files import read_lines, read_text, require_encodable

ENDING: Final = re.compile(r"ending\d+")
GOLD: Final = "gold-ending"
# SWAG's four-way files have the first three; the fourth is often empty.
DISTRACTORS: Final = ("distractor-0", "distractor-1", "distractor-2")
MIN_CHOICES: Final = 2


def read_swag(path: Path) -> list[Example]:
    """The rows of a .csv or .jsonl file: a context, its endings, the number of the right one or None.

    The right ending of the full format takes a place that depends on the row alone.

    Raises:
        TaskError: a row is cut or no JSON, a column is missing, or a label is no number of an ending.
    """
    rows = _jsonl_rows(path) if path.suffix == ".jsonl" else _csv_rows(path)
    examples = [swag_example(row, key=str(number), place=place) for number, (place, row) in enumerate(rows)]
    if not examples:
        raise TaskError(f"{path} has a header and no rows: download it again")
    return examples


def swag_example(row: Mapping[str, Any], *, key: str, place: str) -> Example:
    """One row as an example; raises TaskError where a column is missing or the label is no number of an ending."""
    context, opening = _text(row, "sent1", place), _text(row, "sent2", place)
    if GOLD in row:
        endings = _shuffled(row, place)
        label: int | None = endings.index(_text(row, GOLD, place))
    else:
        names = sorted(filter(ENDING.fullmatch, row), key=lambda name: int(name.removeprefix("ending")))
        if len(names) < MIN_CHOICES:
            raise TaskError(f"{place} has no two endings: name its columns ending0, ending1, ... or {GOLD}")
        endings = [_text(row, name, place) for name in names]
        label = _label(row.get("label"), len(endings), place)
    return Example(
        key=key,
        place=place,
        texts=(context, *(f"{opening} {ending}".strip() for ending in endings)),
        label=label,
        columns=row,
    )


def _text(row: Mapping[str, Any], name: str, place: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        told = "no column" if name not in row else "no text in its column"
        raise TaskError(f"{place} has {told} {name!r}: SWAG's rows have sent1, sent2 and ending0 to ending3, or {GOLD}")
    require_encodable(value, place=place)
    return value


def _shuffled(row: Mapping[str, Any], place: str) -> list[str]:
    endings = [_text(row, name, place) for name in (GOLD, *DISTRACTORS) if row.get(name) != ""]
    if len(endings) < MIN_CHOICES:
        raise TaskError(f"{place} has no distractors: give the row at least one besides its {GOLD}")
    seed = "\0".join((_text(row, "sent1", place), _text(row, "sent2", place)))
    return sorted(endings, key=lambda ending: hashlib.blake2b(f"{seed}\0{ending}".encode()).digest())


def _label(value: Any, num_endings: int, place: str) -> int | None:
    if value is None or value in ("", -1, "-1"):
        return None
    try:
        label = int(value)
    except (TypeError, ValueError):
        label = -1
    if not 0 <= label < num_endings:
        raise TaskError(f"{place}: the label {value!r} is no number of an ending: write 0 to {num_endings - 1}")
    return label


def _jsonl_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        place = f"{path.name}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TaskError(f"{place} is no JSON ({error}): write one object a line") from error
        if not isinstance(row, dict):
            raise TaskError(f"{place} is no JSON object: write one object a line")
        yield place, row


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    header: list[str] = []
    while True:
        place = f"{path.name}:{reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise TaskError(f"{place} cannot be read as CSV ({error}): close its quotes, or mend the row") from error
        if not any(cells):
            continue
        if not header:
            header = cells
        elif len(cells) == len(header):
            yield place, dict(zip(header, cells, strict=True))
        else:
            raise TaskError(f"{place} has {len(cells)} columns where the header has {len(header)}: mend the row")
