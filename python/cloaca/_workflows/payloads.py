"""Checks the data of signals and approvals before it is sent (L12)."""

from __future__ import annotations

from cloaca._values.exceptions import WorkflowInputError
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def check_signal(name: str, text: str) -> None:
    """Checks that a signal's data matches at least one task that waits for the signal.

    Only tasks that this process defines are considered. If none of them waits for the signal, the
    data is not checked, because another program may define the task that waits. A task without an
    annotated parameter for the signal accepts any data.

    Args:
        name: The signal's name.
        text: The signal's data as JSON.

    Raises:
        WorkflowInputError: At least one task waits for the signal, but none of these tasks accepts
            the data.
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
                refusal = WorkflowInputError(
                    f"the data of signal '{name}' does not match parameter '{source.parameter}' of "
                    f"task '{task.id}' of workflow '{workflow.name}': {error.text()}"
                )
                refusal.path = error.path.removeprefix(".")
            else:
                return
    if refusal is not None:
        raise refusal from None


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
