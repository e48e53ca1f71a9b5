"""What is wrong with the examples of a task, before anything runs."""

import logging
from dataclasses import replace

from bertkit.config.finetune import FinetuneConfig, TaskConfig
from bertkit.data.texts import TextEncoder
from bertkit.data.tokenizer import load_tokenizer
from bertkit.errors import TaskError
from bertkit.tasks.check import Report, balanced_weights, check_examples
from bertkit.tasks.problem import ProblemOptions
from bertkit.workflows.source import bert_folder
from bertkit.workflows.task_data import TaskData, load_task

logger = logging.getLogger(__name__)


def check(config: FinetuneConfig) -> tuple[TaskData, Report]:
    """Reads the examples of `config` and looks for everything that would make training or scoring wrong.

    Raises:
        BertkitError: a file cannot be read at all, or there is no such model.
    """
    data = load_task(config)
    encoder = TextEncoder(load_tokenizer(bert_folder(config.model.init_from)))
    return data, _report(data, encoder, config.task.max_seq_length or data.spec.defaults.max_seq_length)


def checked(data: TaskData, task: TaskConfig, encoder: TextEncoder, options: ProblemOptions) -> ProblemOptions:
    """Logs what there is to say of the examples, and completes `options` with the class weights that `task` asks for.

    Raises:
        TaskError: training on these examples would be wrong.
    """
    report = _report(data, encoder, options.max_seq_length)
    for finding in report.findings:
        if finding.severity == "warning":
            # Several runs on the same examples need to hear it once.
            logger.warning("%s", finding.sentence, extra={"once": True})
    if report.errors:
        more = f"; and {len(report.errors) - 1} more: bertkit check shows all" if len(report.errors) > 1 else ""
        raise TaskError(f"{report.errors[0].sentence}{more}")
    if task.class_weights == "none":
        return options
    if data.spec.problem != "classification":
        raise TaskError(f"task.class_weights is for classification, and this is {data.spec.problem}: set it to none")
    weights = balanced_weights([str(example.label) for example in data.train], options.labels)
    return replace(options, class_weights=weights)


def _report(data: TaskData, encoder: TextEncoder, max_seq_length: int) -> Report:
    return check_examples(
        data.train, data.evaluate, data.spec.problem, encoder=encoder, max_seq_length=max_seq_length, labels=data.labels
    )
