"""accelerate's trackers: TensorBoard, Weights & Biases, Trackio, MLflow; one a run, continued when the run is.

What goes where: TensorBoard to the run folder (`trackers/`); Weights & Biases to its server where somebody is logged
in, else to the run folder (`wandb/`); Trackio to its own folder, which `trackio show` reads; MLflow to the run folder
(`mlflow.db`, or `mlruns/` without SQLAlchemy and Alembic). Their own environment variables say otherwise.
"""

import contextlib
import io
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, MLflowTracker, TensorBoardTracker, TrackioTracker, WandBTracker

from bertkit.errors import ConfigError, redacted
from bertkit.installed import is_installed
from bertkit.train.signals import StoppedError
from bertkit.whole import written_whole

logger = logging.getLogger(__name__)

PROJECT: Final = "bertkit"
FOLDER: Final = "trackers"
IDS: Final = "trackers.json"
_RUNS: Final = "runs"

# stopped: by a signal, to go on another time.
Ending = Literal["finished", "failed", "stopped"]
# 255 is what wandb itself takes for a Ctrl-C.
_WANDB_EXITS: Final[Mapping[Ending, int]] = {"finished": 0, "failed": 1, "stopped": 255}
_MLFLOW_STATES: Final[Mapping[Ending, str]] = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_MLFLOW_DATABASE_NEEDS: Final = ("sqlalchemy", "alembic")
_MLFLOW_ARTIFACTS: Final = "mlartifacts"


@dataclass
class _Begin:
    """What a tracker needs to begin: the run's folder, its config, the step it goes on from, and the ids it had."""

    folder: Path
    config: dict[str, Any]
    step: int
    ids: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run as people know it: below `runs/`, or its folder with the one around it."""
        parts = self.folder.resolve().parts
        below = parts[len(parts) - parts[::-1].index(_RUNS) :] if _RUNS in parts else parts[-2:]
        return "/".join(below) or parts[-1]


class SafeTracker(GeneralTracker):
    """A tracker that cannot end a run: the first time it fails is said, and from then on it is left alone.

    Everything it was told stands in metrics.jsonl too, so a disk or a server that fails it costs no figure.
    """

    requires_logging_directory = False

    def __init__(self, inner: GeneralTracker) -> None:
        super().__init__(_blank=True)
        self.name = inner.name
        self._inner = inner
        self._has_failed = False

    @property
    def tracker(self) -> Any:
        """What the tracker itself works with, such as the run of wandb."""
        return self._inner.tracker

    def log(self, values: Mapping[str, Any], step: int | None = None, **kwargs: Any) -> None:
        """Hands over the figures of one step."""
        self._try(lambda: self._inner.log(dict(values), step=step, **kwargs))

    def finish(self, ending: Ending = "finished") -> None:
        """Ends the tracker's run; Weights & Biases and MLflow show how it ended."""
        self._try(lambda: self._end(ending))

    def _end(self, ending: Ending) -> None:
        with _silent():
            if isinstance(self._inner, WandBTracker):
                self._inner.run.finish(exit_code=_WANDB_EXITS[ending])
            elif isinstance(self._inner, MLflowTracker):
                import mlflow

                mlflow.end_run(_MLFLOW_STATES[ending])
            else:
                self._inner.finish()
            if isinstance(self._inner, TrackioTracker):
                import trackio

                # Or it would be finished, and said to be, once more at the end of the process.
                trackio.context_vars.current_run.set(None)

    def _try(self, action: Callable[[], None]) -> None:
        if self._has_failed:
            return
        try:
            action()
        except Exception as error:
            self._has_failed = True
            logger.warning("%s failed and is left out from here on (%s)", self.name, _reason(error))


def start_trackers(
    accelerator: Accelerator, names: Sequence[str], folder: Path, *, config_file: Path, step: int
) -> None:
    """Begins a run of every tracker on the main process, or continues the ones of this folder where `step` is not 0.

    A tracker that cannot begin stops a new run, whose user is there to mend it; of a run that goes on, in a queue or at
    night, it is left out with a warning.

    Raises:
        ConfigError: a tracker of a new run cannot begin; says what to do.
    """
    end_trackers(accelerator, "finished")
    if not names or not accelerator.is_main_process:
        return
    config = _flat(yaml.safe_load(config_file.read_text(encoding="utf-8")))
    begin = _Begin(folder, config, step, _read_ids(folder) if step else {})
    for name in names:
        try:
            with _silent():
                accelerator.trackers.append(SafeTracker(_STARTS[name](begin)))
        except Exception as error:
            if step == 0:
                end_trackers(accelerator, "failed")
                raise ConfigError(_refusal(name, error)) from error
            logger.warning("%s cannot go on and is left out (%s)", name, _reason(error))
    _write_ids(folder, begin.ids)


def end_trackers(accelerator: Accelerator, ending: Ending) -> None:
    """Ends the run of every tracker, so."""
    for tracker in accelerator.trackers:
        tracker.finish(ending)
    accelerator.trackers = []


@contextlib.contextmanager
def trackers_told_of_a_failure(accelerator: Accelerator) -> Iterator[None]:
    """Whatever breaks off the work within ends the trackers' runs as what they are; they would call them finished."""
    try:
        yield
    except BaseException as error:
        is_signal = isinstance(error, KeyboardInterrupt | StoppedError)
        end_trackers(accelerator, "stopped" if is_signal else "failed")
        raise


def log_results(accelerator: Accelerator, scores: Mapping[str, Mapping[str, Any]], *, step: int) -> None:
    """Hands the trackers the scores of every split, as final/SPLIT/FIGURE; not those of single labels."""
    figures = {
        f"final/{split}/{name}": value
        for split, of_split in scores.items()
        for name, value in of_split.items()
        if _is_figure(value)
    }
    if figures:
        accelerator.log(figures, step=step)


def _start_tensorboard(begin: _Begin) -> GeneralTracker:
    # What was logged behind the step that a run goes on from, or begins again from, would be drawn twice.
    tracker = TensorBoardTracker(FOLDER, begin.folder, purge_step=begin.step + 1 if begin.step else 0)
    tracker.start()
    if not begin.step:
        tracker.log({"config": "\n".join(f"    {name}: {value}" for name, value in begin.config.items())}, step=0)
    return tracker


def _start_wandb(begin: _Begin) -> GeneralTracker:
    import wandb

    given = {"dir": ("WANDB_DIR", str(begin.folder)), "name": ("WANDB_NAME", begin.name)}
    identity = begin.ids.setdefault("wandb", uuid.uuid4().hex[:12])
    mode = None
    if "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False):
        mode = "offline"
        kept = (begin.folder / "wandb" / "offline-run-*").as_posix()
        logger.info("nobody is logged in to wandb, so the run stays on this machine: wandb sync %s uploads it", kept)
    tracker = WandBTracker(
        os.environ.get("WANDB_PROJECT", PROJECT),
        id=identity,
        resume="allow",
        config=begin.config,
        allow_val_change=True,
        mode=mode,
        # A run before this one in the same process, and what is printed here, are none of its business.
        settings=wandb.Settings(console="off", silent=True, reinit="finish_previous"),
        **{key: value for key, (variable, value) in given.items() if variable not in os.environ},
    )
    tracker.start()
    if not tracker.run.offline:
        logger.info("wandb: %s", tracker.run.url)
    return tracker


def _start_trackio(begin: _Begin) -> GeneralTracker:
    project = os.environ.get("TRACKIO_PROJECT", PROJECT)
    known = begin.ids.get("trackio")
    tracker = TrackioTracker(
        project,
        name=begin.name if known is None else known,
        resume="never" if known is None else "allow",
        embed=False,
        config=begin.config,
    )
    tracker.start()
    begin.ids["trackio"] = tracker.run.name
    logger.info('trackio: trackio show --project "%s"', project)
    return tracker


def _start_mlflow(begin: _Begin) -> GeneralTracker:
    import mlflow

    # It tells of every table of a new store.
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    given = os.environ.get("MLFLOW_TRACKING_URI")
    folder = begin.folder.resolve()
    mlflow.set_tracking_uri(given or _mlflow_uri(folder))
    if given is None:
        # mlflow sets it, and the next run of this process would take it for the user's word.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    # Whatever ran before in this process and was broken off.
    mlflow.end_run(_MLFLOW_STATES["failed"])
    known = begin.ids.get("mlflow")
    # Of a database, mlflow would keep the artifacts in the working folder.
    artifacts = None if given is not None else (folder / _MLFLOW_ARTIFACTS).as_uri()
    tracker = MLflowTracker(PROJECT, logging_dir=artifacts, run_id=known, run_name=begin.name)
    tracker.start()
    if known is None:
        # A parameter of MLflow's never changes; how a run is executed may.
        tracker.store_init_configuration(begin.config)
    begin.ids["mlflow"] = tracker.tracker.info.run_id
    uri = redacted(mlflow.get_tracking_uri())
    logger.info("%s", f"mlflow: mlflow ui --backend-store-uri {uri}" if given is None else f"mlflow: {uri}")
    return tracker


def _mlflow_uri(folder: Path) -> str:
    """The store inside the run folder; of a new run a database, or files where mlflow-skinny lacks what that needs."""
    database, files = folder / "mlflow.db", folder / "mlruns"
    is_new = not database.exists() and not files.is_dir()
    if database.exists() or (is_new and all(map(is_installed, _MLFLOW_DATABASE_NEEDS))):
        return f"sqlite:///{database.as_posix()}"
    # It asks before it uses files.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    return files.as_uri()


_STARTS: Final[Mapping[str, Callable[[_Begin], GeneralTracker]]] = {
    "tensorboard": _start_tensorboard,
    "wandb": _start_wandb,
    "trackio": _start_trackio,
    "mlflow": _start_mlflow,
}


def _refusal(name: str, error: Exception) -> str:
    return f"{name} cannot begin ({_reason(error)}): mend that, or leave it out of every.trackers"


def _reason(error: Exception) -> str:
    return redacted((str(error).strip().splitlines() or [type(error).__name__])[0][:300])


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Standard output belongs to the results of the command, and trackers talk."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _read_ids(folder: Path) -> dict[str, str]:
    """The ids that trackers know this run by; a file that is damaged costs a new curve, not the run."""
    try:
        ids = json.loads((folder / IDS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(value) for name, value in ids.items()} if isinstance(ids, dict) else {}


def _write_ids(folder: Path, ids: Mapping[str, str]) -> None:
    if not ids:
        return
    try:
        with written_whole(folder / IDS) as aside:
            aside.write_text(json.dumps(ids, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        logger.warning("%s cannot be written, so trackers would begin anew: %s", folder / IDS, error.strerror)


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key; lists as text."""
    if isinstance(values, dict):
        inner = (_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in values.items())
        return {name: value for each in inner for name, value in each.items()}
    return {prefix: values if values is None or isinstance(values, str | int | float) else json.dumps(values)}


def _is_figure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
