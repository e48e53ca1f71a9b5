"""The whole story on text that every Python installation has: corpus, vocabulary, BERT, scores, a filled mask."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from bertkit.config.schema import PretrainConfig
from bertkit.data.demo_corpus import write_demo_corpus
from bertkit.errors import ConfigError
from bertkit.workflows.fill_mask import FilledMask, fill_mask
from bertkit.workflows.pretrain import PretrainSummary, pretrain
from bertkit.workflows.watch import Unwatched, Watcher

SENTENCES = ("Return the [MASK] of the array.", "Raises an error if the [MASK] does not exist.")


@dataclass(frozen=True)
class DemoSummary:
    """What the demo came to; `filled` is empty where a signal ended it early."""

    corpus_dir: Path
    pretraining: PretrainSummary
    filled: tuple[FilledMask, ...]


def demo(config: PretrainConfig, output_dir: Path, *, watch: Watcher | None = None) -> DemoSummary:
    """Writes the demo corpus into `output_dir`/corpus, pre-trains on it in `output_dir`/run and tries the model.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    watch = watch or Unwatched()
    corpus_dir = output_dir / "corpus"
    if not corpus_dir.is_dir():
        watch.begin("collecting docstrings")
        aside = output_dir / ".corpus.partial"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            write_demo_corpus(aside)
            aside.rename(corpus_dir)
        except OSError as error:
            raise ConfigError(
                f"{output_dir} cannot be written: {error.strerror}; choose another --output-dir"
            ) from error
    summary = pretrain(config.model_copy(update={"corpus": str(corpus_dir.resolve())}), output_dir / "run", watch=watch)
    filled = fill_mask(summary.export_dir, list(SENTENCES)) if summary.export_dir else []
    return DemoSummary(corpus_dir, summary, tuple(filled))
