"""Every task by its name; a new one is one value, given to `register_task`."""

import difflib
from typing import Final

from bertkit.errors import TaskError
from bertkit.tasks import glue, hans, squad, swag, tagging_sets
from bertkit.tasks.spec import TaskSpec

_TASKS: Final[dict[str, TaskSpec]] = {}


def find_task(name: str) -> TaskSpec:
    """The task of that name; raises TaskError, naming the nearest, where there is none."""
    if name in _TASKS:
        return _TASKS[name]
    # Who writes "mnli" means "glue/mnli".
    by_word = {word: task for task in _TASKS for word in (task, task.rpartition("/")[2])}
    matches = difflib.get_close_matches(name.lower(), by_word, n=1, cutoff=0.5)
    nearest = f" (did you mean '{by_word[matches[0]]}'?)" if matches else ""
    raise TaskError(f"no task is called '{name}'{nearest}; the tasks are {', '.join(_TASKS)}")


def register_task(spec: TaskSpec) -> TaskSpec:
    """Make a task known by its name; raises TaskError where the name is another task's or the value is no task."""
    known = _TASKS.get(spec.name)
    if known is not None and known != spec:
        raise TaskError(f"the name '{spec.name}' is another task's already: give the new one a name of its own")
    if spec.source is None and spec.files is None:
        raise TaskError(f"the task '{spec.name}' has neither a source on the Hub nor files: give it one of the two")
    if spec.positive is not None and spec.positive not in spec.labels:
        raise TaskError(
            f"the positive label '{spec.positive}' of the task '{spec.name}' is none of its labels "
            f"({', '.join(spec.labels)}): name one of them"
        )
    _TASKS[spec.name] = spec
    return spec


def list_tasks() -> tuple[TaskSpec, ...]:
    """Every task, in the order in which they were registered."""
    return tuple(_TASKS.values())


for _spec in (*glue.TASKS, *squad.TASKS, *tagging_sets.TASKS, *swag.TASKS, *hans.TASKS):
    register_task(_spec)
