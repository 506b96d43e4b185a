"""Records why a task's result may be missing.

If a parameter does not receive the result, the error message states this reason (semantics J7).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloaca._tasks.definition import TaskDefinition


def note_producers(
    tasks: Mapping[str, TaskDefinition], finals: Mapping[str, TaskDefinition]
) -> None:
    """Records, for each parameter that receives a result, when the maker stores the result.

    The maker is the task whose result the parameter receives. Also records whether the maker has
    certainly completed when the parameter is read.

    Args:
        tasks: The bound ordinary tasks of a workflow, by id.
        finals: The bound final tasks and compensations, by the names of their handlers.
    """
    for task in [*tasks.values(), *finals.values()]:
        for source in task.call.sources if task.call is not None else ():
            if source.task is None:
                continue
            maker = tasks.get(source.task) or finals.get(source.task)
            if maker is None:
                continue
            source.maker_stores = _stores(maker)
            source.maker_completed = task.id in tasks and _has_completed(task, maker)


def _stores(maker: TaskDefinition) -> str:
    """Returns the condition under which a task that completes stores a result.

    The possible values are those of `Source.maker_stores`.
    """
    if maker.kind == "engine" or maker.options.map is not None:
        return "always"
    if maker.call is None or maker.call.result_key is None:
        return "explicitly"
    return "always" if maker.call.keeps_none else "unless_none"


def _has_completed(task: TaskDefinition, maker: TaskDefinition) -> bool:
    """Returns whether a task runs only if `maker`, one of its dependencies, has completed.

    A task with the default trigger rule also runs if `maker` was skipped. `maker` can be skipped if
    it has another trigger rule, or a wait that skips it after a timeout or a rejection.
    """
    rule = _rule(task)
    wait = maker.options.wait
    may_skip = wait is not None and (
        wait.on_timeout == "skip" or (wait.approval or {}).get("on_reject") == "skip"
    )
    if rule == "none_failed":
        return _rule(maker) == "none_failed" and not may_skip
    return rule == "all_success"


def _rule(task: TaskDefinition) -> object:
    return "none_failed" if task.rule is None else task.rule._to_definition()
