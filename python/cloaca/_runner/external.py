"""Registers tasks of workflows that other programs define."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca import _core
    from cloaca._tasks.definition import TaskDefinition


def serve_external(core: _core.Runner, workflow: str, task: TaskDefinition) -> None:
    """Registers a handler of an external task with an engine, if this program runs the task.

    Raises:
        TaskValidationError: The workflow's definition has no such task, does not declare the task
            as external, or contradicts the options given here.
    """
    from cloaca._values.encoding import encode_as

    handler = task.core_handler()
    if handler is not None:
        definition = encode_as(f"the definition of task {task.id!r}", task.to_definition())
        core.serve(workflow, definition, handler)
