"""The examples of a comparison's columns, read before any model of it is begun."""

from collections.abc import Sequence
from dataclasses import dataclass

from bertkit.errors import BertkitError, TaskError
from bertkit.tasks.check import check_examples
from bertkit.workflows.ablate.plan import AblationPlan, Cell, Column, FinetuneCell
from bertkit.workflows.finetune_setup import resolve
from bertkit.workflows.task_data import TaskData, load_task


@dataclass(frozen=True)
class ColumnExamples:
    """The examples of a column, and the most tokens that its models read of one."""

    data: TaskData
    longest: int


def require_examples(plan: AblationPlan, left: Sequence[Cell]) -> None:
    """Reads what the cells that are left train on and score, every task once: nobody waits for models in vain.

    Raises:
        TaskError: the examples of a task cannot be used; names it.
    """
    awaited = {cell.column for cell in left if isinstance(cell, FinetuneCell)}
    for column in {column.task.key: column for column in plan.columns if column.key in awaited}.values():
        read_examples(plan, column)


def read_examples(plan: AblationPlan, column: Column) -> ColumnExamples:
    """What all cells of a column train on and score.

    Raises:
        TaskError: a file or a row cannot be used, or the models are too short for the task; names the task.
    """
    run = next(run for run in plan.runs if run.column == column.key)
    positions = run.model.config.model.max_position_embeddings
    try:
        data = load_task(run.config)
        length = resolve(run.config, data).task.max_seq_length
    except BertkitError as error:
        raise TaskError(f"{column.task.title}: {error}") from error
    if length is not None and length > positions:
        raise TaskError(
            f"{column.task.title}: max_seq_length {length} exceeds the {positions} positions of the models: "
            f"--set finetune.task.max_seq_length={positions}, or leave the task out of --tasks"
        )
    longest = length or positions
    # Lengths are measured once there is a tokenizer.
    report = check_examples(data.train, data.evaluate, data.spec.problem, max_seq_length=longest, labels=data.labels)
    if report.errors:
        raise TaskError(f"{column.task.title}: {report.errors[0].sentence}")
    return ColumnExamples(data, longest)
