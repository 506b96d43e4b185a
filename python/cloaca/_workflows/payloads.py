"""Checks data before it is sent to tasks of this process (L12)."""

from __future__ import annotations

from cloaca._values.exceptions import WorkflowInputError
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def check_signal(name: str, text: str) -> None:
    """Refuses data if tasks of this process wait for the signal, but none could take the data.

    If this process has no such task, nothing is refused, because other programs may have one.

    Args:
        name: The signal's name.
        text: Its data as JSON.

    Raises:
        WorkflowInputError: The data does not match the parameter of any such task.
    """
    from cloaca._values.decoding import Undecodable

    refusal: WorkflowInputError | None = None
    for workflow in registry.all_workflows():
        for task in workflow._definitions.values():
            wait = task.options.wait
            if wait is None or wait.condition is None or name not in wait.condition.signals:
                continue
            sources = () if task.call is None else task.call.sources
            found = (one for one in sources if one.kind == "signal" and one.key == name)
            source = next(found, None)
            if source is None or source.decoder is None:
                return
            try:
                source.decoder.decode(text)
            except Undecodable as error:
                path = error.path.removeprefix(".")
                place = f"`{path}`: " if path else ""
                refusal = WorkflowInputError(
                    f"the data of signal '{name}' does not match parameter '{source.parameter}' of "
                    f"task '{task.id}' of workflow '{workflow.name}': {place}{error.reason}"
                )
                refusal.path = path
            else:
                return
    if refusal is not None:
        raise refusal from None


def check_approval(task: str, data: object, workflow_of: Callable[[], str]) -> None:
    """Refuses data that does not match `data=` of an approval of this process.

    Args:
        task: The approval's id.
        data: The data; `None` is always accepted.
        workflow_of: Reads the name of the workflow. It is called only if an approval of this
            process has this id and declares its data.

    Raises:
        WorkflowInputError: The data does not match.
        TypeError: The data is not a mapping.
    """
    models = {}
    for workflow in registry.all_workflows():
        definition = workflow._definitions.get(task)
        wait = None if definition is None else definition.options.wait
        if wait is not None and wait.data is not None:
            models[workflow.name] = wait.data
    if data is None or not models:
        return
    model = models.get(workflow_of())
    if model is not None:
        model.validate(data, f"the data of approval '{task}'")
