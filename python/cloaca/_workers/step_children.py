"""Children of a task's function: their inputs, and their recorded outcomes (T5, T10)."""

from __future__ import annotations

from cloaca._values.encoding import encode_as
from cloaca._values.exceptions import ChildFailedError, TaskValidationError, WorkflowInputError
from cloaca._values.inputs import context_of
from cloaca._workers.step_values import recorded_by, value_text
from cloaca._workers.step_waits import StepWait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from typing import Any

    from cloaca._core import Runner, StepLog, Work

    Read = Callable[[str], Any]

# The names that workflows can have: the maximum length, and the characters.
_MAX_NAME = 255
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")

# The condition of a task that waits only for children.
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
        """Return the recorded outcomes of the children; `None` if a child has not ended.

        Raises:
            TaskValidationError: Another kind of call recorded a step with this key.
        """
        one = recorded_by(log, self.name, "run" if self._count is None else "run_many")
        if self._count is not None:
            return log.recorded_children(self.name)
        return None if one is None else [one]

    def over(self, log: StepLog) -> str | None:
        """Return the JSON to record, if all children of a `run_many` call have ended."""
        count = self._count
        if count is None or log.missing_children(self.name, count):
            return None
        return f'{{"count":{count}}}'

    def recorded_over(self, log: StepLog, text: str) -> Any:
        """Return the outcomes of the children, all of which are recorded."""
        ends = (log.recorded(f"{self.name}\x1f{index}") for index in range(self._count or 0))
        return [end[1] for end in ends if end is not None]

    def reserve(self, core: Runner, work: Work, log: StepLog) -> int:
        """Return the position of the step that will record the end of the call.

        For `run_many`, also reserves a position for the outcome of each child.
        """
        return log.reserve_children(work, self.name, self._count)

    def runs(self, log: StepLog) -> str | None:
        """Return the children to wait for, as JSON."""
        inputs, count = self._definition["inputs"], self._count
        missing = range(1) if count is None else log.missing_children(self.name, count)
        parts = (f'{{"index":{index},"input":{inputs[index]}}}' for index in missing)
        rest = {name: value for name, value in self._definition.items() if name != "inputs"}
        return f'{encode_as(self.name, rest)[:-1]},"inputs":[{",".join(parts)}]}}'

    def ended(self, task_id: str, recorded: Any) -> Any:
        """Return the outputs of the children.

        Raises:
            ChildFailedError: A child did not complete.
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
    details = failed.get("error") or {}
    # The error is final, because another attempt would read the same recorded outcome.
    error._is_final = True
    error.child_id = failed["child"]
    error.status = failed["status"]
    error.error_type = details.get("type")
    error.error_message = details.get("message")
    return error


def definition_of(
    task_id: str, name: str, workflow: object, inputs: list[Any], options: RunOptions
) -> dict[str, Any]:
    """Returns the children of a call in the form that the engine reads, with inputs as JSON texts.

    Raises:
        TaskValidationError: An option is not valid.
        ConfigurationError: The timeout cannot be read.
        WorkflowInputError: An input does not match the workflow's model.
        TypeError: An input is not a mapping, a `Context` or a model, or a value in it is not
            JSON.
        ValueError: A value in an input is NaN or an infinity.
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
        TaskValidationError: `workflow` is none of these, the name is not valid, or it is the name
            of final tasks, which a task cannot start.
    """
    from cloaca._workflows.function import defined_workflow

    found = workflow if isinstance(workflow, str) else defined_workflow(workflow)
    if not found:
        raise TaskValidationError(
            f"'{name}' of task '{task_id}' must name a workflow, not {workflow!r:.100}",
            hint="pass the name of the workflow, or the function that @cloaca.workflow decorates",
        )
    if found.endswith("~final"):
        raise TaskValidationError(
            f"'{name}' of task '{task_id}' names '{found}', which consists of the final tasks of "
            f"'{found.removesuffix('~final')}'",
            hint="leave the call out: the engine starts final tasks when an execution ends",
        )
    if len(found) > _MAX_NAME or not set(found) <= _NAME_CHARACTERS:
        raise TaskValidationError(
            f"'{name}' of task '{task_id}' must name a workflow, but {found!r:.100} cannot be the "
            "name of a workflow",
            hint=f"a name has 1 to {_MAX_NAME} of the characters A-Z a-z 0-9 _ . -",
        )
    return found


def input_text(task_id: str, name: str, workflow: str, given: Any) -> str:
    """Returns the input of an execution as JSON text, with the defaults of the workflow's model.

    Raises:
        WorkflowInputError: The input does not match the workflow's model.
        TypeError: The input is not a mapping, a `Context` or a model, or a value in it is not
            JSON.
        ValueError: A value in the input is NaN or an infinity.
    """
    from cloaca._workflows.registry import registry

    known = registry.workflow(workflow)
    if known is not None and known._input is not None:
        try:
            return known._input.validate(given).to_json()
        except WorkflowInputError as error:
            # The error is final, because another attempt would pass the same input.
            error._is_final = True
            raise
    context = context_of(given)
    return "{}" if context is None else context.to_json()
