"""The whole story on text that every Python installation has: corpus, vocabulary, BERT, scores, a filled mask."""

import logging
from dataclasses import dataclass
from pathlib import Path

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.load import find_recipe, load_config
from bertkit.config.schema import PretrainConfig
from bertkit.data.demo_corpus import FILE_NAME, write_demo_corpus
from bertkit.data.demo_task import DemoTask, write_demo_task
from bertkit.errors import ConfigError
from bertkit.whole import written_whole
from bertkit.workflows.fill_mask import FilledMask, fill_mask
from bertkit.workflows.finetune import FinetuneSummary, finetune
from bertkit.workflows.pretrain import PretrainSummary, pretrain
from bertkit.workflows.watch import Unwatched, Watcher

logger = logging.getLogger(__name__)

SENTENCES = ("Return the [MASK] of the array.", "Raises an error if the [MASK] does not exist.")


@dataclass(frozen=True)
class DemoSummary:
    """What the demo came to; `filled` is empty, and there is no task, where a signal ended it early."""

    corpus_dir: Path
    pretraining: PretrainSummary
    filled: tuple[FilledMask, ...]
    finetuning: FinetuneSummary | None = None
    task: DemoTask | None = None


def demo(config: PretrainConfig, output_dir: Path, *, watch: Watcher | None = None) -> DemoSummary:
    """Writes the demo corpus into `output_dir`/corpus, pre-trains on it in `output_dir`/run, tries the model,
    and fine-tunes it in `output_dir`/finetuned to tell which package a sentence comes from.

    Raises:
        BertkitError: whatever the user can mend, in one sentence.
    """
    watch = watch or Unwatched()
    corpus_dir = output_dir / "corpus"
    if not corpus_dir.is_dir():
        watch.begin("collecting docstrings")
        try:
            with written_whole(corpus_dir) as aside:
                write_demo_corpus(aside)
        except OSError as error:
            raise ConfigError(
                f"{output_dir} cannot be written: {error.strerror}; choose another --output-dir"
            ) from error
    summary = pretrain(config.model_copy(update={"corpus": str(corpus_dir.resolve())}), output_dir / "run", watch=watch)
    if summary.export_dir is None:
        return DemoSummary(corpus_dir, summary, ())
    filled = tuple(fill_mask(summary.export_dir, list(SENTENCES)))
    task = write_demo_task(corpus_dir / FILE_NAME, output_dir / "task")
    if task is None:
        logger.info(
            "too few packages with docstrings are installed for the demo's task: pip install pandas scikit-learn scipy"
        )
        return DemoSummary(corpus_dir, summary, filled)
    finetuned = finetune(_task_config(task, summary.export_dir), output_dir / "finetuned", watch=watch)
    return DemoSummary(corpus_dir, summary, filled, finetuned, task)


def _task_config(task: DemoTask, bert: Path) -> FinetuneConfig:
    recipe = find_recipe("demo", finetuning=True)
    options = {
        "task.train": str(task.train.resolve()),
        "task.problem": "classification",
        "task.texts": ["sentence"],
        "task.label": "package",
        "task.evaluate": [str(task.evaluate.resolve())],
        "model.init_from": str(bert.resolve()),
    }
    return load_config(FinetuneConfig, recipe, options=options)
