"""Checks the data of signals and approvals before it is sent (L12)."""

from __future__ import annotations

from cloaca._values.exceptions import WorkflowInputError
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cloaca._tasks.definition import TaskDefinition


def check_signal(name: str, text: str, workflow_of: Callable[[], str | None] | None) -> None:
    """Checks that a signal's data matches at least one task that waits for the signal.

    Only tasks that this process defines are considered. If none of them waits for the signal, the
    data is not checked, because another program may define the task that waits. A task without an
    annotated parameter for the signal accepts any data.

    Args:
        name: The signal's name.
        text: The signal's data as JSON.
        workflow_of: For a signal to one execution: a function that reads the name of its workflow,
            whose tasks alone are then considered. It returns `None` if there is no such execution,
            and is called only if a task of any workflow does not accept the data.

    Raises:
        WorkflowInputError: At least one task waits for the signal, but none of these tasks accepts
            the data.
    """
    answers: dict[str, list[WorkflowInputError | None]] = {}
    for workflow in registry.all_workflows():
        found = [
            _refusal(name, text, workflow.name, task)
            for task in workflow._definitions.values()
            if task.options.wait is not None
            and task.options.wait.condition is not None
            and name in task.options.wait.condition.signals
        ]
        if found:
            answers[workflow.name] = found
    considered = [answer for found in answers.values() for answer in found]
    if workflow_of is not None and any(considered):
        considered = answers.get(workflow_of() or "", [])
    if considered and all(considered):
        assert considered[-1] is not None
        raise considered[-1] from None


def _refusal(
    name: str, text: str, workflow: str, task: TaskDefinition
) -> WorkflowInputError | None:
    """Returns the error if the data of a signal does not match the task's parameter for it."""
    from cloaca._values.decoding import Undecodable

    sources = () if task.call is None else task.call.sources
    source = next((one for one in sources if one.kind == "signal" and one.key == name), None)
    if source is None or source.decoder is None:
        return None
    try:
        source.decoder.decode(text)
    except Undecodable as error:
        refusal = WorkflowInputError(
            f"the data of signal '{name}' does not match parameter '{source.parameter}' of "
            f"task '{task.id}' of workflow '{workflow}': {error.text()}"
        )
        refusal.path = error.path.removeprefix(".")
        return refusal
    return None


def check_approval(task: str, data: object, workflow_of: Callable[[], str]) -> None:
    """Checks data against the type that an approval of this process declares in `data=`.

    Args:
        task: The approval's id.
        data: The data; `None` is the same as an empty mapping.
        workflow_of: A function that reads the name of the workflow. It is called only if this
            process defines an approval that has this id and declares `data=`.

    Raises:
        WorkflowInputError: The data does not match, or a required field is missing.
        TypeError: The data is not a mapping.
    """
    models = {}
    for workflow in registry.all_workflows():
        definition = workflow._definitions.get(task)
        wait = None if definition is None else definition.options.wait
        if wait is not None and wait.data is not None:
            models[workflow.name] = wait.data
    if not models:
        return
    model = models.get(workflow_of())
    if model is not None:
        model.validate({} if data is None else data, f"the data of approval '{task}'")
