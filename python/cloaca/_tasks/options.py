"""The options of a task, except id and dependencies, and their checks (semantics A2)."""

from __future__ import annotations

from cloaca._retry.options import policy_of
from cloaca._tasks.definition import TaskOptions
from cloaca._tasks.parameters import call_problem
from cloaca._tasks.trigger_rule import task_rule
from cloaca._values.duration import timeout_to_us
from cloaca._values.exceptions import CloacaException, TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._tasks.trigger_rule import TriggerRule

PRIORITIES = range(-32768, 32768)


def read_options(
    task: str,
    *,
    timeout: Any = None,
    timeout_seconds: Any = None,
    trigger_rule: Any = None,
    trigger_rules: Any = None,
    priority: Any = None,
    max_context_bytes: Any = None,
    on_success: Any = None,
    on_failure: Any = None,
    wait_for: Any = None,
    wait_timeout: Any = None,
    on_timeout: Any = None,
    final: Any = None,
    undoes: Any = None,
    compensate: Any = None,
    compensate_failed: Any = False,
    over: Any = None,
    parallel: Any = None,
    batch: Any = None,
    tolerate: Any = None,
    **retry: Any,
) -> TaskOptions:
    """Validates options; an omitted option is `None` or `False`.

    Args:
        task: The subject of error messages, e.g. `task 'load'`.
        timeout: Maximum duration of one attempt: seconds, a timedelta, or a string.
        timeout_seconds: Another name for `timeout`.
        trigger_rule: A trigger rule, or its name.
        trigger_rules: Another name for `trigger_rule`.
        priority: The priority with which the task is claimed.
        max_context_bytes: Maximum size of the values that one attempt writes, in bytes.
        on_success: The function to call after the task has completed.
        on_failure: The function to call after the task has failed.
        wait_for: The condition that the task waits for.
        wait_timeout: Maximum time of the wait.
        on_timeout: The consequence of the wait's timeout.
        final: For a final task: how the execution must have ended for the task to run.
        undoes: For a final task: the tasks that it undoes.
        compensate: The function that undoes the task.
        compensate_failed: Whether `compensate` also runs if the task failed.
        over: The list to run over, or a mapping from parameters to lists of equal length. The task
            runs once per item.
        parallel: Maximum number of items that run at once.
        batch: Maximum number of elements in an item.
        tolerate: Maximum number or share of failed items.
        **retry: `retry`, `retry_policy`, `never_on` and every `retry_*`.

    Raises:
        TaskValidationError: An option is not valid, or two options exclude each other.
    """
    try:
        is_final, compensation = None, None
        if final is not None or undoes is not None or compensate is not None or compensate_failed:
            from cloaca._tasks.final_options import read_final

            is_final, compensation = read_final(final, undoes, compensate, compensate_failed)
        wait, of_map = None, None
        if any(value is not None for value in (wait_for, wait_timeout, on_timeout)):
            from cloaca._tasks.wait_options import read_wait

            wait = read_wait(wait_for, wait_timeout, on_timeout)
        if any(value is not None for value in (over, parallel, batch, tolerate)):
            from cloaca._tasks.map_options import read_map

            of_map = read_map(over, parallel, batch, tolerate)
        if is_final is not None:
            _check_ordinary_options(wait is not None, of_map is not None)
        return TaskOptions(
            final=is_final,
            compensation=compensation,
            policy=policy_of(retry),
            rule=_rule(trigger_rule, trigger_rules),
            timeout_us=_timeout(timeout, timeout_seconds),
            priority=None if priority is None else check_priority(priority),
            max_context_bytes=_bytes(max_context_bytes),
            on_success=_callback("on_success", on_success, ("task_id", "context")),
            on_failure=_callback("on_failure", on_failure, ("task_id", "error_text", "context")),
            wait=wait,
            map=of_map,
        )
    except CloacaException as error:
        raise TaskValidationError(f"{task}: {error.message}", hint=error.hint) from None


def _check_ordinary_options(waits: bool, is_map: bool) -> None:
    """Refuses the options that a final task cannot have.

    The engine refuses them too, but only after the parameters have been resolved, and the item of a
    map would be an unknown parameter.
    """
    if waits:
        raise TaskValidationError(
            "a final task cannot have wait_for=",
            hint="call handle.wait(...) in its function",
        )
    if is_map:
        raise TaskValidationError(
            "a final task cannot have over=",
            hint="loop in its function, with handle.step(...) for each element",
        )


def check_priority(value: object) -> int:
    """Checks a priority, and returns it.

    Raises:
        TaskValidationError: The value is not a whole number from -32768 to 32767.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value not in PRIORITIES:
        raise TaskValidationError(
            f"priority must be a whole number from -32768 to 32767, not {value!r}",
            hint="higher runs first; the default is 0",
        )
    return value


def _rule(trigger_rule: object, trigger_rules: object) -> TriggerRule | None:
    if trigger_rule is not None and trigger_rules is not None:
        raise TaskValidationError(
            "trigger_rule and trigger_rules exclude each other",
            hint="join conditions with cloaca.all_of(...) or cloaca.any_of(...)",
        )
    if trigger_rule is not None:
        return task_rule("trigger_rule", trigger_rule)
    return None if trigger_rules is None else task_rule("trigger_rules", trigger_rules)


def _timeout(timeout: Any, timeout_seconds: Any) -> int | None:
    if timeout is not None and timeout_seconds is not None:
        raise TaskValidationError("timeout and timeout_seconds are the same option: give one")
    if timeout_seconds is not None:
        return timeout_to_us(timeout_seconds, "timeout_seconds")
    return None if timeout is None else timeout_to_us(timeout)


def _bytes(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**63:
        raise TaskValidationError(
            f"max_context_bytes must be a whole number greater than zero, not {value!r}"
        )
    return value


def _callback(option: str, value: Any, arguments: tuple[str, ...]) -> Any:
    if value is None:
        return None
    if not callable(value):
        raise TaskValidationError(f"{option} must be a function, not {type(value).__name__}")
    problem = call_problem(value, arguments)
    if problem is not None:
        raise TaskValidationError(f"{option}: {problem}")
    return value
