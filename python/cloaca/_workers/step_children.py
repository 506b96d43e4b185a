"""Children of a task's function: their inputs, and their recorded ends (T5, T10)."""

from __future__ import annotations

from cloaca._values.encoding import encode_as
from cloaca._values.exceptions import ChildFailedError, TaskValidationError
from cloaca._values.inputs import context_of
from cloaca._workers.step_values import check_call, value_text
from cloaca._workers.step_waits import StepWait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any

    from cloaca._core import Runner, StepLog, Work

    Read = Callable[[str], Any]

# The condition of a task that waits neither for signals nor for times, but for children.
_NONE: dict[str, Any] = {"wait": "all_of", "conditions": []}


class RunOptions:
    """The options of a call that runs children."""

    __slots__ = ("many", "parallel", "priority", "timeout")

    def __init__(
        self,
        many: bool,
        parallel: int | None,
        timeout: str | float | timedelta | None,
        priority: int | None,
    ) -> None:
        self.many = many
        self.parallel = parallel
        self.timeout = timeout
        self.priority = priority


class StepRun(StepWait):
    """A call that runs children."""

    __slots__ = ("_definition",)

    def __init__(self, name: str, definition: dict[str, Any], read: Read) -> None:
        super().__init__("run", name, _NONE, None, read)
        self._definition = definition

    @property
    def _count(self) -> int | None:
        count: int | None = self._definition.get("count")
        return count

    def recorded(self, log: StepLog) -> Any:
        """The recorded ends of the children; `None` if one of them has not ended.

        Raises:
            TaskValidationError: Another call recorded the key.
        """
        check_call(log, self.name, "run" if self._count is None else "run_many")
        if self._count is not None:
            return log.recorded_children(self.name)
        one = log.recorded(self.name)
        return None if one is None else [one]

    def over(self, log: StepLog) -> str | None:
        """The text to record at once if all children of the call have ended."""
        count = self._count
        if count is None or log.missing_children(self.name, count):
            return None
        return f'{{"count":{count}}}'

    def recorded_over(self, log: StepLog, text: str) -> Any:
        """The ends of the children. All of them have been recorded."""
        ends = (log.recorded(f"{self.name}\x1f{index}") for index in range(self._count or 0))
        return [end for end in ends if end is not None]

    def reserve(self, core: Runner, work: Work, log: StepLog) -> int:
        """The position of the step that will record the end."""
        return log.reserve_children(work, self.name, self._count)

    def runs(self, log: StepLog) -> str | None:
        """The children to wait for, as JSON."""
        inputs, count = self._definition["inputs"], self._count
        missing = range(1) if count is None else log.missing_children(self.name, count)
        parts = (f'{{"index":{index},"input":{inputs[index]}}}' for index in missing)
        rest = {name: value for name, value in self._definition.items() if name != "inputs"}
        return f'{encode_as(self.name, rest)[:-1]},"inputs":[{",".join(parts)}]}}'

    def ended(self, task_id: str, recorded: Any) -> Any:
        """The outputs of the children.

        Raises:
            ChildFailedError: One did not complete.
        """
        outputs = [self._output(task_id, end) for end in recorded]
        return outputs[0] if self._count is None else outputs

    def _output(self, task_id: str, end: str) -> Any:
        import json

        decoded = json.loads(end)
        failed = decoded.get("failed")
        if failed is not None:
            raise _failure(task_id, self.name, failed)
        return self._read(value_text(end)) if self._is_typed else decoded.get("value")


def _failure(task_id: str, name: str, failed: dict[str, Any]) -> ChildFailedError:
    error = ChildFailedError(f"'{name}' of task '{task_id}': {failed['message']}")
    told = failed.get("error") or {}
    # Another attempt gets the same recorded end.
    error._is_final = True
    error.child_id = failed["child"]
    error.status = failed["status"]
    error.error_type = told.get("type")
    error.error_message = told.get("message")
    return error


def definition_of(
    task_id: str, name: str, workflow: object, inputs: list[Any], options: RunOptions
) -> dict[str, Any]:
    """Returns the children of a call, in the form that the engine reads.

    Their inputs are JSON texts.

    Raises:
        TaskValidationError: An option is not valid.
        ConfigurationError: The timeout cannot be read.
        WorkflowInputError: An input does not match the workflow's model.
        TypeError: An input is not a mapping, or a value in it is not JSON.
    """
    from cloaca._tasks.options import PRIORITIES
    from cloaca._tasks.wait_options import wait_timeout

    started = workflow_name(task_id, name, workflow)
    definition: dict[str, Any] = {"workflow": started}
    if options.many:
        definition["count"] = len(inputs)
    if options.parallel is not None:
        _check_number(task_id, name, "parallel", options.parallel, range(1, 2**32))
        definition["parallel"] = options.parallel
    timeout_us = wait_timeout("timeout", options.timeout)
    if timeout_us is not None:
        definition["timeout"] = timeout_us
    if options.priority is not None:
        _check_number(task_id, name, "priority", options.priority, PRIORITIES)
        definition["priority"] = options.priority
    definition["inputs"] = [input_text(task_id, name, started, given) for given in inputs]
    return definition


def _check_number(task_id: str, name: str, option: str, given: object, known: range) -> None:
    if isinstance(given, bool) or not isinstance(given, int) or given not in known:
        raise TaskValidationError(
            f"'{name}' of task '{task_id}': {option} must be a whole number from {known.start} to "
            f"{known.stop - 1}, not {given!r}"
        )


def workflow_name(task_id: str, name: str, workflow: object) -> str:
    """Returns the name of a workflow, from a name, a `Workflow` or a decorated function.

    Raises:
        TaskValidationError: `workflow` is none of these.
    """
    found = workflow
    if not isinstance(workflow, str):
        found = getattr(workflow, "name", None)
        if callable(workflow):
            from cloaca._workflows.task import id_of

            found = id_of(workflow)
    if not isinstance(found, str) or not found:
        raise TaskValidationError(
            f"'{name}' of task '{task_id}' names a workflow by {workflow!r:.100}",
            hint="pass the name of the workflow, or the function that @cloaca.workflow decorates",
        )
    return found


def input_text(task_id: str, name: str, workflow: str, given: Any) -> str:
    """The input of an execution as JSON text, with the defaults of the workflow's model.

    Raises:
        WorkflowInputError: It does not match the workflow's model.
        TypeError: It is not a mapping, or a value in it is not JSON.
    """
    from cloaca._workflows.registry import registry

    known = registry.workflow(workflow)
    if known is not None and known._input is not None:
        return known._input.validate(given).to_json()
    context = context_of(given)
    return "{}" if context is None else context.to_json()
