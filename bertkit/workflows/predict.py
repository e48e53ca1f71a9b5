"""Predicts rows of files, standard input or single sentences; memory does not grow with the input."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Literal

import torch

from bertkit.errors import ConfigError, TaskError
from bertkit.tasks.columns import Columns
from bertkit.tasks.spec import Example
from bertkit.tasks.table import BrokenRow
from bertkit.train.processes import launched_processes
from bertkit.workflows.finetuned import Finetuned, open_finetuned
from bertkit.workflows.infer import EXAMPLES_A_CHUNK, Predictor
from bertkit.workflows.prediction_fields import AnsweredRow, Fields
from bertkit.workflows.prediction_files import (
    OF_INPUT,
    Layout,
    OutputKind,
    Writer,
    kind_of_output,
    open_writer,
    require_fitting,
    unwritten,
    written_aside,
)
from bertkit.workflows.prediction_rows import STANDARD_INPUT, Row, Wanted, kind_of_input, read_rows, require_files
from bertkit.workflows.watch import Unwatched, Watcher

logger = logging.getLogger(__name__)

BAD_ROWS_NAMED = 5
FLAT: tuple[OutputKind, ...] = ("csv", "tsv", "parquet")


@dataclass(frozen=True)
class PredictSummary:
    """How many rows were read, how many of them could not be used, and how long it took."""

    output: Path | None
    rows: int
    bad_rows: int
    seconds: float


@dataclass
class _Tally:
    """Rows so far, and the first of those that could not be used."""

    rows: int = 0
    bad_rows: int = 0
    first_bad: list[BrokenRow] = field(default_factory=list)

    def add(self, rows: Sequence[Row]) -> None:
        bad = [row for row in rows if isinstance(row, BrokenRow)]
        self.rows += len(rows)
        self.bad_rows += len(bad)
        self.first_bad += bad[: BAD_ROWS_NAMED - len(self.first_bad)]

    def warn(self) -> None:
        if self.bad_rows:
            first, *others = self.first_bad
            named = ", ".join(row.place for row in others) + (", ..." if self.bad_rows > BAD_ROWS_NAMED else "")
            also = f"; also {named}" if others else ""
            what = f"{self.bad_rows:,} of {self.rows:,} rows have no prediction, and an error instead"
            logger.warning("%s", f"{what}: {first}{also}")


def predict(
    source: str | Path,
    inputs: str | Path | Sequence[str | Path] = (),
    *,
    output: str | Path | IO[str],
    sentences: Sequence[str] = (),
    texts: Sequence[str] = (),
    with_probabilities: bool = False,
    watch: Watcher | None = None,
) -> PredictSummary:
    """Predicts every row of `inputs` and `sentences` with a fine-tuned run, folder or Hub id, and writes them in order.

    inputs: files, "-" for standard input, which is read where nothing else is given. output: a file that is not there
    yet, its kind by its suffix, or a stream of text. texts: columns of the text, those of training if left out, else
    guessed. A row that cannot be used is kept, with an error in the place of a prediction.

    Of several processes of a launch, each predicts a part of every batch and the main one writes.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    processes = launched_processes()
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    paths = [str(path) for path in given] or ([] if sentences else [STANDARD_INPUT])
    place = Path(output) if isinstance(output, str | Path) else output
    kind = kind_of_output(place) if isinstance(place, Path) else None
    require_files(paths)
    if processes.number > 1 and STANDARD_INPUT in paths:
        raise ConfigError("standard input reaches one process only: give files, or start a single process")
    with processes.watched():
        model = open_finetuned(str(source), precision=prediction_precision())
        wanted = _wanted(model, texts)
        kinds = tuple(kind_of_input(path, wanted) for path in paths)
        kind = kind or (OF_INPUT.get(kinds[0], "jsonl") if len(set(kinds)) == 1 and not sentences else "jsonl")
        require_fitting(kind, wanted.problem)
        started_s = time.monotonic()
        writing = written_aside if processes.is_main else unwritten
        with writing(place, binary=kind == "parquet") as file:
            outlet = _Outlet(kind, file, model, tuple(paths), kinds, with_probabilities)
            tally = _write_all(read_rows(paths, sentences, wanted), model.predictor, outlet, watch or Unwatched())
    tally.warn()
    model.predictor.say_what_was_cut()
    written = place if isinstance(place, Path) else None
    return PredictSummary(written, tally.rows, tally.bad_rows, time.monotonic() - started_s)


@dataclass(frozen=True)
class _Outlet:
    """Where predictions go, and what the writer of them depends on."""

    kind: OutputKind
    file: IO[str]
    model: Finetuned
    inputs: tuple[str, ...]
    kinds: tuple[str, ...]
    with_probabilities: bool

    def writer(self, first: Sequence[AnsweredRow]) -> Writer:
        """The writer for rows such as the first ones."""
        columns = tuple(dict.fromkeys(str(name) for row in first for name in row.columns))
        fields = Fields.of(
            self.model.spec.problem,
            self.model.labels,
            columns,
            flat=self.kind in FLAT,
            with_probabilities=self.with_probabilities,
        )
        if "prediction" in columns and self.kind in (*FLAT, "jsonl"):
            logger.info("%s", f"the input has a column 'prediction' already: ours is {fields.names['prediction']!r}")
        return open_writer(self.kind, self.file, Layout(columns, fields, self.inputs, self.kinds), first)


def _write_all(rows: Iterator[Row], predictor: Predictor, outlet: _Outlet, watch: Watcher) -> _Tally:
    tally, writer = _Tally(), None
    with ExitStack() as opened:
        while chunk := list(islice(rows, EXAMPLES_A_CHUNK)):
            answered = answer(chunk, predictor)
            if writer is None:
                writer = outlet.writer(answered)
                opened.callback(writer.release)
            writer.write(answered)
            tally.add(chunk)
            watch.work("predicting", tally.rows, None)
        if writer is None:
            raise TaskError("there is no row to predict: give a file with one row an example")
        writer.close()
    return tally


def answer(rows: Sequence[Row], predictor: Predictor) -> list[AnsweredRow]:
    """Every row with its prediction, where it can be used."""
    predictions = predictor.predict(row for row in rows if isinstance(row, Example))
    return [AnsweredRow(row, next(predictions) if isinstance(row, Example) else None) for row in rows]


def prediction_precision() -> Literal["auto", "fp32"]:
    """float32 on a CPU, so that a prediction is what stock transformers predicts; on a GPU what computes fast."""
    # bf16 is twice as fast on some processors, but a row's probability would hang on its neighbours in the batch, and
    # differ from what transformers says in the second digit.
    return "auto" if torch.cuda.is_available() else "fp32"


def _wanted(model: Finetuned, texts: Sequence[str]) -> Wanted:
    """What rows must hold: columns as they were asked for, or as in training."""
    problem, names = model.spec.problem, model.spec.texts
    task = None if model.config is None or model.config.task.name is not None else model.config.task
    columns = Columns(texts=tuple(texts))
    if task is not None:
        columns = Columns(texts=tuple(texts) or task.texts, label=task.label, choices=task.choices)
    if problem == "multiple_choice" and texts:
        if len(texts) < 2:
            raise ConfigError("--text for multiple choice names the context first, then every choice: give it again")
        columns = Columns(texts=columns.texts[:1], label=columns.label, choices=columns.texts[1:])
    is_plain = problem in ("classification", "regression", "multi_label")
    return Wanted(problem, columns, names if is_plain and len(names) in (1, 2) else (), bool(texts))
