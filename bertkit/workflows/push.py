"""A finished run to the Hugging Face Hub: checked once more, described by its card, and no file more than was asked."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

import bertkit
from bertkit.errors import CheckpointError, ConfigError, nearest
from bertkit.hub.upload import CARD_FILE, RepoFile, Uploaded, full_repo_id, require_repo_id, upload
from bertkit.train.checkpoint import latest_checkpoint
from bertkit.workflows.card import PICTURE, card_picture, make_card, portable_config
from bertkit.workflows.export_code import code_files, export_with_code
from bertkit.workflows.plots import PLOTS_FOLDER, write_plots
from bertkit.workflows.published import Published, published_run
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.sound import exported_files, require_sound
from bertkit.workflows.watch import Unwatched, Watcher

logger = logging.getLogger(__name__)

Format = Literal["bert", "bertkit"]
# What goes up only when asked for, by the name it is asked for with.
INCLUDABLE: Final = {
    "card": "README.md, in the place of one that somebody has edited",
    "config": "config.yaml, its paths and secrets taken out",
    "results": "results.json",
    "logs": "metrics.jsonl",
    "plots": "plots/",
    "predictions": "predictions.jsonl, which holds texts and gold labels too",
    "checkpoint": "the last checkpoint, optimizer state included",
}


@dataclass(frozen=True)
class PushPlan:
    """What would go where, under which title; `choice` says which run it is, where it was chosen among several."""

    repo_id: str
    title: str
    run: RunFolder
    files: tuple[RepoFile, ...]
    card: str
    choice: str | None = None


@dataclass(frozen=True)
class PushSummary:
    """What went where."""

    plan: PushPlan
    uploaded: Uploaded


@contextmanager
def planned_push(
    run_path: Path | None,
    repo_id: str,
    *,
    format: Format = "bert",
    include: Sequence[str] = (),
    license: str | None = None,
    language: str | None = None,
    watch: Watcher | None = None,
) -> Iterator[PushPlan]:
    """The files of a run (the newest by default) as they would go up, checked; they lie where they are while it lasts.

    Raises:
        CheckpointError: the run is not finished, or its export does not open in transformers or is not the run's model.
        ConfigError: there is no such thing to include.
        HubError: the repository, the license or the language is none that the Hub could know.
    """
    require_repo_id(repo_id)
    with _planned(
        published_run(run_path),
        repo_id,
        format=format,
        include=include,
        license=license,
        language=language,
        watch=watch,
    ) as plan:
        yield plan


def push(
    run_path: Path | None,
    repo_id: str,
    *,
    private: bool = False,
    message: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    watch: Watcher | None = None,
    **what: Any,
) -> PushSummary:
    """Pushes a run to a repository, which is made if need be; `what`: see `planned_push`.

    Raises:
        BertkitError: as `planned_push`, and HubError for whatever the Hub or the network refuses.
    """
    watch = watch or Unwatched()
    require_repo_id(repo_id)
    _require_includable(what.get("include", ()))
    published = published_run(run_path)
    if reason := published.results.get("collapsed"):
        logger.warning("the run collapsed (%s), which its card says too", reason)
    repo_id = full_repo_id(repo_id)
    with _planned(published, repo_id, watch=watch, **what) as plan:
        if plan.choice:
            logger.info("%s", plan.choice)
        megabytes = sum(file.size for file in plan.files) / 1e6
        watch.begin(f"pushing {len(plan.files)} files, {megabytes:,.1f} MB, to {repo_id}")
        uploaded = upload(
            repo_id,
            plan.files,
            private=private,
            message=message or f"{plan.title}, by bertkit {bertkit.__version__}",
            revision=revision,
            create_pr=create_pr,
            overwrites_card="card" in what.get("include", ()),
            outdated=[path.name for path in code_files()],
        )
    _tell(uploaded, repo_id)
    return PushSummary(plan, uploaded)


@contextmanager
def _planned(
    published: Published,
    repo_id: str,
    *,
    format: Format = "bert",
    include: Sequence[str] = (),
    license: str | None = None,
    language: str | None = None,
    watch: Watcher | None = None,
) -> Iterator[PushPlan]:
    _require_includable(include)
    run = published.run
    (watch or Unwatched()).begin(f"checking {run.path}")
    require_sound(run)
    picture = card_picture(run)
    card = make_card(
        published,
        repo_id=repo_id,
        license=license,
        language=language,
        with_code=format == "bertkit",
        has_picture=picture is not None,
    ).content
    with ExitStack() as stack:
        scratch = stack.enter_context(_scratch()) if format == "bertkit" or "plots" in include else None
        files = [
            *_model(run, format, scratch),
            *_included(run, include, scratch),
            RepoFile.of(CARD_FILE, card.encode()),
        ]
        if picture is not None:
            files.append(RepoFile.of(PICTURE, picture))
        unique = {file.path: file for file in files}
        yield PushPlan(repo_id, published.title, run, tuple(unique.values()), card, _choice(published))


def _tell(uploaded: Uploaded, repo_id: str) -> None:
    if uploaded.keeps_card:
        logger.warning(
            "%s of %s stays as it is, for bertkit did not write it or somebody has edited it: --include card puts "
            "the card in its place",
            *(CARD_FILE, repo_id),
        )
    if uploaded.removed:
        logger.info("removed from %s, of an earlier push: %s", repo_id, ", ".join(uploaded.removed))


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder of the system's that is gone afterwards."""
    try:
        folder = TemporaryDirectory(prefix="bertkit-push-", ignore_cleanup_errors=True)
    except OSError as error:
        raise CheckpointError(f"no temporary folder can be made ({error}): free some space, or set TMPDIR") from error
    with folder as path:
        yield Path(path)


def _choice(published: Published) -> str | None:
    return f"{published.choice}: this is the run that goes up" if published.choice else None


def _require_includable(include: Iterable[str]) -> None:
    for name in include:
        if name not in INCLUDABLE:
            raise ConfigError(
                f"--include {name} is nothing of a run{nearest(name, INCLUDABLE)} (there are {', '.join(INCLUDABLE)})"
            )


def _model(run: RunFolder, format: Format, scratch: Path | None) -> list[RepoFile]:
    if format == "bertkit" and scratch is not None:
        paths = exported_files(export_with_code(run, scratch / "bertkit"))
    else:
        paths = exported_files(run.export)
    return [RepoFile.of(path.name, path) for path in paths]


def _included(run: RunFolder, include: Sequence[str], scratch: Path | None) -> list[RepoFile]:
    files: list[RepoFile] = []
    if "config" in include:
        files.append(RepoFile.of("config.yaml", portable_config(run).encode()))
    for name, path in (("results", run.results_file), ("predictions", run.predictions_file)):
        if name in include:
            files.append(RepoFile.of(path.name, _existing(path, name)))
    if "logs" in include:
        # What trackers wrote names the machine.
        files.append(RepoFile.of("metrics.jsonl", _existing(run.metrics_file, "logs")))
    if "plots" in include and scratch is not None:
        plots = write_plots(run, scratch / PLOTS_FOLDER)
        files += [RepoFile.of(f"{PLOTS_FOLDER}/{path.name}", path) for path in plots]
    if "checkpoint" in include:
        checkpoint = latest_checkpoint(run.checkpoints)
        if checkpoint is None:
            raise CheckpointError(f"{run.path} has no checkpoint any more: leave out --include checkpoint")
        files += _all_below(run, checkpoint.path.relative_to(run.path).as_posix())
    return files


def _existing(path: Path, name: str) -> Path:
    if not path.is_file():
        raise CheckpointError(f"{path} is not there: leave out --include {name}")
    return path


def _all_below(run: RunFolder, folder: str) -> list[RepoFile]:
    paths = sorted(path for path in (run.path / folder).rglob("*") if path.is_file() and not path.name.startswith("."))
    return [RepoFile.of(path.relative_to(run.path).as_posix(), path) for path in paths]
