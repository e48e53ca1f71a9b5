"""An ONNX model scored on what its run was scored on: a task's examples, or held-out text."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from bertkit.config.finetune import FinetuneConfig
from bertkit.config.schema import PretrainConfig
from bertkit.errors import TaskError
from bertkit.tasks.spec import Example
from bertkit.train.setup import build_accelerator
from bertkit.workflows.evaluate import heldout_instances, score_heldout
from bertkit.workflows.finetuned import open_finetuned
from bertkit.workflows.objectives import objective_of
from bertkit.workflows.onnx_model import OnnxModel
from bertkit.workflows.pinned import open_trained
from bertkit.workflows.runs import RunFolder
from bertkit.workflows.scoring import judge, score_splits
from bertkit.workflows.task_data import load_task
from bertkit.workflows.watch import Watcher

# Figures of every split, by its name.
Scores = dict[str, dict[str, float]]
HELDOUT = "heldout"
# Held-out figures that are the text's, whatever the model.
_BASELINES = ("unigram_entropy", "nsp_majority")


def scorer_of(
    run: RunFolder, watch: Watcher, *, config: PretrainConfig | None = None
) -> tuple[Callable[[OnnxModel], Scores], tuple[str, str]]:
    """What scores a model on the run's own evaluation data; and the split and the figure that stand for all of them.

    Raises:
        BertkitError: that data is gone, or is not what it was.
    """
    return _task_scorer(run, watch) if run.is_finetuning() else _heldout_scorer(run, watch, config)


def _task_scorer(run: RunFolder, watch: Watcher) -> tuple[Callable[[OnnxModel], Scores], tuple[str, str]]:
    results, data = run.read_results(), load_task(run.read_config(FinetuneConfig))
    if data.evaluation_hash() != results.get("evaluation_hash"):
        raise TaskError(f"the examples that {run.path} was scored on have changed since: put the old ones back")
    predictor = open_finetuned(str(run.path), precision="fp32").predictor

    def score(model: OnnxModel) -> Scores:
        predict = replace(predictor, model=model).predict
        judged = {
            split: judge(rows, predict(_watched(rows, watch)), keep=data.spec.columns)
            for split, rows in data.evaluate.items()
        }
        scores = score_splits(data.spec, judged, null_threshold=predictor.options.null_threshold)
        return {split: _figures(of_split) for split, of_split in scores.items()}

    first = next(iter(data.evaluate))
    return score, (first, results["headline"].removeprefix(f"{first}_"))


def _heldout_scorer(
    run: RunFolder, watch: Watcher, config: PretrainConfig | None
) -> tuple[Callable[[OnnxModel], Scores], tuple[str, str]]:
    config, store, _, _ = open_trained(run, config)
    settings, longest = config, config.train.phases[-1].max_seq_length
    heldout_instances(store, settings, max_seq_length=longest)
    accelerator = build_accelerator("fp32")

    def score(model: OnnxModel) -> Scores:
        found = score_heldout(model, store, settings, accelerator=accelerator, max_seq_length=longest, watch=watch)
        return {HELDOUT: _figures(found)}

    return score, (HELDOUT, f"{objective_of(config.model_dump()).term}_loss")


def _watched(rows: Sequence[Example], watch: Watcher) -> Iterator[Example]:
    for number, row in enumerate(rows, start=1):
        yield row
        watch.work("scoring", number, len(rows))


def _figures(scores: dict[str, Any]) -> dict[str, float]:
    return {name: value for name, value in scores.items() if isinstance(value, int | float) and name not in _BASELINES}
