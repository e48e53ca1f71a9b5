"""A finished run to the Hugging Face Hub: checked once more, described by its card, and no file more than was asked."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

import torch
import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel

import bertkit.model
from bertkit.config.schema import PretrainConfig
from bertkit.errors import CheckpointError, ConfigError, nearest, refused_as
from bertkit.hub.upload import CARD_FILE, RepoFile, Uploaded, full_repo_id, require_repo_id, upload
from bertkit.train.checkpoint import latest_checkpoint, load_weights
from bertkit.workflows.card import card_images, make_card, portable_config
from bertkit.workflows.export_code import export_with_code
from bertkit.workflows.exportable import largest_difference, require_same_logits
from bertkit.workflows.pinned import build_pinned_model
from bertkit.workflows.plots import PLOTS_FOLDER
from bertkit.workflows.published import Published, published_run
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.watch import Unwatched, Watcher

logger = logging.getLogger(__name__)

Format = Literal["bert", "bertkit"]
# What goes up of an export; whatever else somebody has put there stays here.
_MODEL_FILES: Final = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
)
# What goes up only when asked for, by the name it is asked for with.
INCLUDABLE: Final = {
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
    _require_includable(include)
    published = published_run(run_path)
    (watch or Unwatched()).begin(f"checking {published.run.path}")
    require_sound(published.run)
    card = make_card(
        published, repo_id=repo_id, license=license, language=language, with_code=format == "bertkit"
    ).content
    with ExitStack() as stack:
        if format == "bertkit":
            folder = export_with_code(published.run, stack.enter_context(_scratch()) / "bertkit")
            model = _model_files(folder, (*_MODEL_FILES, "*.py"))
        else:
            model = _model_files(published.run.export, _MODEL_FILES)
        files = [*model, *_card_files(published.run, card), *_included(published.run, include)]
        unique = {file.path: file for file in files}
        yield PushPlan(repo_id, published.title, published.run, tuple(unique.values()), card, _choice(published))


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
    if reason := published_run(run_path).results.get("collapsed"):
        logger.warning("the run collapsed (%s), which its card says too", reason)
    repo_id = full_repo_id(repo_id)
    with planned_push(run_path, repo_id, watch=watch, **what) as plan:
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
        )
    return PushSummary(plan, uploaded)


def require_sound(run: RunFolder) -> None:
    """Make sure that a run's export opens in plain transformers, whole, and gives the logits of the run's model.

    Raises:
        CheckpointError: it does not.
    """
    remedy = "the same bertkit finetune command" if run.is_finetuning() else f"bertkit export {run.path}"
    if not run.export.is_dir():
        raise CheckpointError(f"{run.path} has no export: run {remedy} again")
    with refused_as(CheckpointError, f"{run.export} does not open in transformers: remove it and run {remedy} again"):
        stock_config = AutoConfig.from_pretrained(run.export, local_files_only=True, trust_remote_code=False)
        architecture = stock_config.architectures[0]
        AutoTokenizer.from_pretrained(run.export, local_files_only=True, trust_remote_code=False)
        stock = _opened(getattr(transformers, architecture), run.export)
        ours = _model_of(run, architecture)
    require_same_logits(largest_difference(ours, stock))


def _opened(model_class: Any, folder: Path) -> PreTrainedModel:
    loaded: Any = model_class.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
    )
    model: PreTrainedModel = loaded[0].eval()
    found = loaded[1]
    if found["missing_keys"]:
        raise CheckpointError(f"{folder} lacks weights, such as {sorted(found['missing_keys'])[0]}: export it again")
    return model


def _model_of(run: RunFolder, architecture: str) -> PreTrainedModel:
    """What the export must equal: the last checkpoint, or, where there is none any more, itself in our classes."""
    checkpoint = None if run.is_finetuning() else latest_checkpoint(run.checkpoints)
    if checkpoint is None:
        return _opened(getattr(bertkit.model, architecture.replace("Bert", "BertKit", 1)), run.export)
    model: PreTrainedModel = build_pinned_model(run.read_config(PretrainConfig), run).eval()
    load_weights(checkpoint, model)
    return model


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


def _model_files(folder: Path, patterns: Iterable[str]) -> list[RepoFile]:
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return [RepoFile.of(path.name, path) for path in sorted(paths)]


def _card_files(run: RunFolder, card: str) -> list[RepoFile]:
    images = [RepoFile.of(f"{PLOTS_FOLDER}/{path.name}", path) for path in card_images(run)]
    return [RepoFile.of(CARD_FILE, card.encode()), *images]


def _included(run: RunFolder, include: Sequence[str]) -> list[RepoFile]:
    files: list[RepoFile] = []
    if "config" in include:
        files.append(RepoFile.of("config.yaml", portable_config(run).encode()))
    for name, path in (("results", run.results_file), ("predictions", run.predictions_file)):
        if name in include:
            files.append(RepoFile.of(path.name, _existing(path, name)))
    if "logs" in include:
        # What trackers wrote names the machine.
        files.append(RepoFile.of("metrics.jsonl", _existing(run.metrics_file, "logs")))
    if "plots" in include:
        files += _all_below(run, PLOTS_FOLDER)
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
