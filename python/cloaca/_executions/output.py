"""The typed results of an execution: its output, and the result of each task (semantics J8)."""

from __future__ import annotations

from cloaca._executions.status import TaskStatus
from cloaca._tasks.parameters import MISSING
from cloaca._tasks.references import task_id, tasks_of
from cloaca._values.exceptions import ContextError, TaskInputError
from cloaca._values.suggestion import suggestion
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from cloaca._core import Context, Execution
    from cloaca._values.decoding import Decoder
    from cloaca._workflows.workflow import Workflow

    class Task(Protocol):
        """The property of a task that the functions here use."""

        status: TaskStatus

    class WorkflowResult(Protocol):
        """The properties of a `WorkflowResult` that the functions here use."""

        _execution: Execution

        @property
        def workflow_name(self) -> str: ...
        @property
        def final_context(self) -> Context: ...
        @property
        def tasks(self) -> Mapping[str, Task]: ...


def output_of(result: WorkflowResult) -> Any:
    """Returns the output of an execution: the results that the workflow's `output=` names.

    A missing result is `None`. Without `output=`, the output is the final context.

    Raises:
        TaskInputError: A value does not match the return annotation of its task's function.
    """
    keys = result._execution.output
    if keys is None:
        return result.final_context
    workflow = registry.workflow(result.workflow_name)
    producers = {key: id for id, key in result._execution.results.items()}

    def value(key: str) -> Any:
        task = producers.get(key)
        if task is not None and result.tasks[task].status is not TaskStatus.COMPLETED:
            return None
        return _decoded(key, result.final_context, result_decoder(workflow, key))

    return value(keys) if isinstance(keys, str) else tuple(map(value, keys))


def result_of(result: WorkflowResult, task: str | Callable[..., object]) -> Any:
    """Returns the result of a task.

    Args:
        result: The execution.
        task: The task's id, its function, or the name of its result.

    Raises:
        ContextError: The workflow has no such task, or the task has not completed.
        TaskInputError: The value does not match the return annotation of the task's function.
    """
    keys = result._execution.results
    ids = [known.id for known in tasks_of(task) if known.id in result.tasks]
    id = ids[0] if len(ids) == 1 else task_id("result.of", task)
    if id not in result.tasks:
        named = next((task for task, key in keys.items() if key == id), None)
        if named is None:
            raise ContextError(
                f"workflow '{result.workflow_name}' has no task '{id}'",
                hint=suggestion(id, [*result.tasks, *keys.values()]),
            )
        id = named
    status = result.tasks[id].status
    if status is not TaskStatus.COMPLETED:
        raise ContextError(f"task '{id}' has no result: its state is {status}")
    key = keys.get(id, id)
    decoder = result_decoder(registry.workflow(result.workflow_name), key)
    if result._execution.is_map(id):
        return _items(result._execution, id, key, decoder)
    return _decoded(key, result.final_context, decoder)


def _items(execution: Execution, id: str, key: str, decoder: Decoder | None) -> list[Any]:
    """Returns the results of a map in the order of its list; `None` for items without a result."""
    import json

    from cloaca._values.decoding import Undecodable

    found: list[Any] = []
    for index, text in enumerate(execution.item_results(id)):
        try:
            if text is None:
                found.append(None)
            else:
                found.append(json.loads(text) if decoder is None else decoder.decode(text))
        except Undecodable as error:
            problem = TaskInputError(
                f"the result '{key}' does not match its annotation: "
                f"{error.text(f'{key}[{index}]')}",
                hint="an earlier version of the function may have stored it",
            )
            problem.path = f"{key}[{index}]{error.path}"
            raise problem from None
    return found


def _decoded(key: str, context: Context, decoder: Decoder | None) -> Any:
    if decoder is None:
        value = context._decoded(key, MISSING)
        return None if value is MISSING else value
    from cloaca._values.decoding import Undecodable

    text = context._raw(key)
    if text is None:
        return None
    try:
        return decoder.decode(text)
    except Undecodable as error:
        problem = TaskInputError(
            f"the result '{key}' does not match its annotation: {error.text(key)}",
            hint="an earlier version of the function may have stored it; "
            f"final_context[{key!r}] has it as JSON",
        )
        problem.path = f"{key}{error.path}"
        raise problem from None


def result_decoder(workflow: Workflow | None, key: str) -> Decoder | None:
    """Returns the decoder of a result; `None` if the result is plain JSON.

    The decoder is made from the return annotation of the task's function in this process.
    """
    known = {} if workflow is None else workflow._definitions
    task = next((task for task in known.values() if task.result_key == key), None)
    if task is None or task.signature is None or task.call is None or task.call.result_key is None:
        return None
    from cloaca._values.decoding import Unreadable

    try:
        return task.signature.decoder("return")
    except Unreadable:
        return None
