"""The BERT that `--from` names: a run, a folder, or a Hub id."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from bertkit.errors import ConfigError
from bertkit.model import BertKitConfig
from bertkit.workflows.runs import RunFolder

_RUNS_NAMED = 8


def bert_folder(source: str) -> str:
    """What transformers can open: the export of a run, or the folder or Hub id that was given.

    Raises:
        ConfigError: the run has not been exported yet, or is none of those in the folder that is named.
    """
    run = RunFolder(Path(source))
    if not run.path.exists() and (others := _runs_beside(run.path)):
        # As a Hub id it would be looked up, again and again where there is no network.
        raise ConfigError(f"there is no run {source}: {run.path.parent} holds {', '.join(others)}")
    if not run.is_run():
        return source
    if not run.export.is_dir() and run.is_finetuning():
        raise ConfigError(f"{source} is not finished: run its own bertkit finetune command again")
    if not run.export.is_dir():
        raise ConfigError(f"{source} is a run without an export: make one with bertkit export {source}")
    return str(run.export)


def open_bert_config(source: str) -> Any:
    """The config of a BERT.

    Raises:
        ConfigError: there is none, or it is of another family; says what to give.
    """
    try:
        config = AutoConfig.from_pretrained(bert_folder(source))
    except (OSError, ValueError) as error:
        raise ConfigError(cannot_open(source, error)) from error
    if config.model_type not in ("bert", BertKitConfig.model_type):
        raise ConfigError(f"--from {source} is a '{config.model_type}' model: only BERT can be trained further here")
    return config


def cannot_open(source: str, error: Exception) -> str:
    """Why nothing could be made of `source`, in one sentence that says what to give."""
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return f"--from {source} cannot be opened: give a BERT's folder, a run or a Hub id ({reason})"


def _runs_beside(path: Path) -> list[str]:
    """Names of the runs in the folder that `path` would lie in, the newest first; the working folder's do not count."""
    if path.parent == Path() or not path.parent.is_dir():
        return []
    runs = [each for each in path.parent.iterdir() if RunFolder(each).is_run()]
    newest = sorted(runs, key=lambda run: RunFolder(run).config_file.stat().st_mtime, reverse=True)
    return [run.name for run in newest[:_RUNS_NAMED]] + ["..."] * (len(newest) > _RUNS_NAMED)
