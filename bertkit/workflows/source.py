"""The BERT that `--from` names: a run, a folder, or a Hub id."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from bertkit.config.schema import Direction
from bertkit.data.tokenizer import LoadedTokenizer
from bertkit.data.vocabulary import Vocabulary
from bertkit.errors import ConfigError, refused_as
from bertkit.hub.refusals import why_not_found
from bertkit.model.families import BILM, FAMILIES
from bertkit.model.reader import reader_settings
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.several import require_one_run

logger = logging.getLogger(__name__)

_RUNS_NAMED = 8
# Beyond any BERT; a damaged number is mostly far beyond.
_LARGEST_SIZE, _MOST_LAYERS = 10_000_000, 1000
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")


def bert_folder(source: str) -> str:
    """What transformers can open: the export of a run, or the folder or Hub id that was given.

    Raises:
        ConfigError: the run has not been exported yet, or is none of those in the folder that is named.
        CheckpointError: a fine-tuning run did not come to its end, or its model is gone; or the folder holds several.
    """
    run = RunFolder(Path(source))
    if not run.path.exists() and (others := _runs_beside(run.path)):
        # As a Hub id it would be looked up, again and again where there is no network.
        raise ConfigError(f"there is no run {source}: {run.path.parent} holds {', '.join(others)}")
    if not (run.path / "config.json").is_file():
        require_one_run(run)
    if not run.is_run():
        return source
    if run.is_finetuning():
        run.require_model()
    if not run.export.is_dir():
        raise ConfigError(f"{source} is a run without an export: make one with bertkit export {source}")
    return str(run.export)


def open_bert_config(source: str) -> Any:
    """The config of a BERT.

    Raises:
        ConfigError: there is none, or it is of another family; says what to give.
    """
    folder = bert_folder(source)
    if not Path(folder).exists():
        # Without a network it takes half a minute until that is given up.
        logger.info("there is no folder %s: taking it for a Hub id", source, extra={"once": True})
    with opening(source):
        # No code that lies beside a model is ever run, and no one is asked whether it may.
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        require_sane(config)
    if config.model_type not in FAMILIES:
        raise ConfigError(f"{source} is a '{config.model_type}' model: bertkit opens BERT only")
    return config


def direction_of(config: Any) -> Direction:
    """What the tokens of a model that `open_bert_config` opened see: both sides, the left one, or each by itself."""
    if config.model_type == BILM:
        return "bilm"
    return "left-to-right" if getattr(config, "is_decoder", False) else "bidirectional"


@contextmanager
def opening(source: str) -> Iterator[None]:
    """Whatever goes wrong within is a ConfigError that says what to give in the stead of `source`."""
    instead = "give a BERT's folder, a run or a Hub id"
    with refused_as(ConfigError, f"{source} cannot be opened: {instead}"):
        try:
            yield
        except OSError as error:
            why = None if Path(source).exists() else why_not_found(error)
            if why is None:
                raise
            raise ConfigError(f"there is no folder {source}, and {why}: {instead}") from error


def require_sane(config: Any) -> None:
    """Raise ValueError for fields of a BERT's config that are no numbers or names at all, or absurd.

    Left to itself two thousand million layers would be built until the memory is full.
    """
    for name in _SIZES:
        size = getattr(config, name, 1)
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= _LARGEST_SIZE:
            raise ValueError(f"config.json says {name} {size!r}")
    if config.num_hidden_layers > _MOST_LAYERS:
        raise ValueError(f"config.json says num_hidden_layers {config.num_hidden_layers}")
    for name in _SHARES:
        share = getattr(config, name, None)
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"config.json says {name} {share!r}")
    _require_sane_bilstm(getattr(config, "bilstm", None))
    if not all(isinstance(name, str) for name in config.architectures or ()):
        raise ValueError("config.json names its architectures otherwise than by text")


def _require_sane_bilstm(bilstm: Any) -> None:
    if bilstm is None:
        return
    settings = reader_settings(bilstm)
    for name, most in (("size", _LARGEST_SIZE), ("num_layers", _MOST_LAYERS)):
        size = settings[name]
        if isinstance(size, bool) or not isinstance(size, int) or not 0 < size <= most:
            raise ValueError(f"config.json says bilstm.{name} {size!r}")


def require_room(config: Any, vocabulary: Vocabulary, source: str) -> None:
    """Make sure that the model has an embedding for every piece of its tokenizer.

    Raises:
        ConfigError: the tokenizer is another model's, or has tokens that were added later.
    """
    if vocabulary.size > config.vocab_size:
        raise ConfigError(
            f"the tokenizer of {source} has {vocabulary.size:,} pieces and the model embeddings for "
            f"{config.vocab_size:,}: give a model together with its own tokenizer"
        )


def longest_input(config: Any, tokenizer: LoadedTokenizer) -> int:
    """The tokens a BERT was trained to read: fewer than it has positions where its tokenizer says so."""
    return int(min(config.max_position_embeddings, tokenizer.pretrained.model_max_length))


def _runs_beside(path: Path) -> list[str]:
    """Names of the runs in the folder that `path` would lie in, the newest first; the working folder's do not count."""
    if path.parent == Path() or not path.parent.is_dir():
        return []
    runs = [each for each in path.parent.iterdir() if RunFolder(each).is_run()]
    newest = sorted(runs, key=lambda run: RunFolder(run).config_file.stat().st_mtime, reverse=True)
    return [run.name for run in newest[:_RUNS_NAMED]] + ["..."] * (len(newest) > _RUNS_NAMED)
