"""What the user sees: progress and notes on standard error, results on standard output, errors as one line."""

import contextlib
import errno
import io
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from bertkit.errors import BertkitError, SaidElsewhereError, printable, redacted
from bertkit.train.signals import StoppedError, stopped_at_once
from bertkit.workflows.figures import duration

if TYPE_CHECKING:
    from bertkit.workflows.watch import TrainingStatus

INTERRUPTED_EXIT = 130
_SHOWN_CHARS = 60
SECONDS_FOR_THE_MAIN_PROCESS = 3.0
# Without a terminal, one line a training log row and one line of other progress every so many seconds.
SECONDS_BETWEEN_LINES = 10.0


@contextlib.contextmanager
def errors_as_one_line(*, after_a_stop: str = "the same command goes on from what is already done") -> Iterator[None]:
    """A BertkitError becomes one red line and its exit code; a signal one line and 128 + its number.

    Anything else keeps its traceback. after_a_stop: what is to be known when a signal broke the work off.
    """
    try:
        with stopped_at_once():
            yield
    except BertkitError as error:
        _say_once(error)
        raise typer.Exit(error.exit_code) from None
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _say_on_main(f"{str(error.filename)[:_SHOWN_CHARS]}... is too long for the name of a file: give a shorter one")
        raise typer.Exit(BertkitError.exit_code) from None
    except KeyboardInterrupt:
        _say_on_main(f"interrupted; {after_a_stop}")
        raise typer.Exit(INTERRUPTED_EXIT) from None
    except StoppedError as stopped:
        _say_on_main(f"stopped by {stopped}; {after_a_stop}")
        raise typer.Exit(stopped.exit_code) from None


def _say_once(error: BertkitError) -> None:
    """Says what is wrong by the main process, where it is wrong there too; by this one, named, where it is not."""
    if is_main_process():
        say_error(str(error))
        return
    # Meanwhile the main process says the same, and their launcher ends this one.
    time.sleep(SECONDS_FOR_THE_MAIN_PROCESS)
    if not isinstance(error, SaidElsewhereError):
        say_error(f"process {os.environ['RANK']} of {os.environ.get('WORLD_SIZE', '?')}: {error}")


def _say_on_main(text: str) -> None:
    if is_main_process():
        say_error(text)


def is_main_process() -> bool:
    """Whether this process is the one of its launch (torchrun, accelerate, srun) that talks to the user."""
    return os.environ.get("RANK", "0") == "0"


def speak_unicode() -> None:
    """Has standard output take every letter; on Windows a pipe has a code page, which lacks most of them."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper) or stream.encoding.lower() in ("utf-8", "utf8"):
        return
    if stream.isatty() or "PYTHONIOENCODING" in os.environ:
        stream.reconfigure(errors="backslashreplace")
    else:
        stream.reconfigure(encoding="utf-8")


class ConsoleWatcher:
    """Shows a workflow's progress: bars when standard error is a terminal, plain lines when it is not."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False, quiet=not is_main_process())
        self._bar = _Bar(self._console) if self._console.is_terminal else None
        self._last_line_s = time.monotonic()
        self._handler = _NoteHandler(self)

    def __enter__(self) -> Self:
        logger = logging.getLogger("bertkit")
        logger.addHandler(self._handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        _quieten_libraries()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.close()
        logger = logging.getLogger("bertkit")
        logger.removeHandler(self._handler)
        logger.propagate = True

    def begin(self, title: str) -> None:
        """A part of the workflow begins."""
        if self._bar:
            self._bar.close()
        self.note(f"[bold]{title}[/bold]", markup=True)

    def note(self, text: str, *, markup: bool = False, style: str | None = None) -> None:
        """Prints one sentence above the bar."""
        self._console.print(printable(redacted(text)), markup=markup, style=style, soft_wrap=True)

    def work(self, description: str, done: int, total: int | None) -> None:
        """Some work of known or unknown size goes on."""
        if self._bar:
            self._bar.show(description, done=done, total=total)
        elif self._is_time() or done == total:
            self.note(f"{description}: {done:,}" + (f" of {total:,}" if total else ""))

    def training(self, status: "TrainingStatus") -> None:
        """One optimizer step is over."""
        figures = training_figures(status.numbers, pairs=status.pairs) if status.numbers else None
        if self._bar:
            self._bar.show_training(status, figures)
        elif figures:
            self.note(f"step {status.step:,} ({status.progress:.0%}, {status.phase}): {figures}, {_left(status)}")

    def _is_time(self) -> bool:
        now = time.monotonic()
        if now - self._last_line_s < SECONDS_BETWEEN_LINES:
            return False
        self._last_line_s = now
        return True


class _Bar:
    """One rich progress bar at a time."""

    def __init__(self, console: Any) -> None:
        self._console = console
        self._progress: Any = None
        self._task: Any = None
        self._figures = ""

    def show(self, description: str, *, done: float, total: float | None) -> None:
        if self._progress is None:
            self._open()
        self._progress.update(self._task, description=description, completed=done, total=total)

    def show_training(self, status: "TrainingStatus", figures: str | None) -> None:
        self._figures = figures or self._figures
        text = f"step {status.step:,} · {self._figures} · {_left(status)}" if self._figures else f"step {status.step:,}"
        self.show(text, done=status.progress, total=1.0)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress = None

    def _open(self) -> None:
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        self._progress = Progress(
            TaskProgressColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)
        self._progress.start()


class _NoteHandler(logging.Handler):
    """The library's log records as notes; warnings in yellow, those marked `once` a single time."""

    def __init__(self, watcher: ConsoleWatcher) -> None:
        super().__init__()
        self._watcher = watcher
        self._said_once: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "once", False):
            if record.getMessage() in self._said_once:
                return
            self._said_once.add(record.getMessage())
        if record.levelno >= logging.CRITICAL:
            # The end of this process, main or not.
            say_error(record.getMessage())
            return
        is_warning = record.levelno >= logging.WARNING
        text = f"warning: {record.getMessage()}" if is_warning else record.getMessage()
        self._watcher.note(text, style="yellow" if is_warning else None)


def training_figures(numbers: Mapping[str, float], *, pairs: str = "nsp") -> str:
    """The figures of a log row in one line, those of pairs by the name of what is learned of them."""
    parts = [f"loss {numbers['loss']:.3f}"]
    for term, name in (("mlm", "mlm"), ("lm", "lm"), ("nsp", pairs)):
        if f"{term}_loss" in numbers:
            parts.append(f"{name} {numbers[f'{term}_loss']:.3f} ({numbers[f'{term}_accuracy']:.1%})")
    return ", ".join([*parts, f"{numbers['tokens_per_s']:,.0f} tokens/s"])


def print_json(value: Any) -> None:
    """A result for machines, on standard output; once, however many processes found it."""
    if is_main_process():
        typer.echo(json.dumps(value, indent=2, default=str))


def print_table(title: str, rows: Sequence[tuple[str, ...]], *, header: tuple[str, ...] = ()) -> None:
    """A result for people, on standard output; once, however many processes found it."""
    if not is_main_process():
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD if header else None, show_header=bool(header))
    for name in header or rows[0]:
        table.add_column(name if header else "")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    # A pipe has no width: rich would fold at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    # A title of the table's would be folded at its width.
    console.print(printable(title), style="italic", markup=False, soft_wrap=True)
    console.print(table)


def _left(status: "TrainingStatus") -> str:
    return "time left unknown" if status.remaining_s is None else f"{duration(status.remaining_s)} left"


def say_error(text: str) -> None:
    """One red line on standard error."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True).print(Text(f"error: {printable(' '.join(text.split()))}", style="red"), soft_wrap=True)


def _quieten_libraries() -> None:
    import transformers
    from huggingface_hub.utils import logging as hub_logging

    # A line a try, with addresses whose signatures give access.
    hub_logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
