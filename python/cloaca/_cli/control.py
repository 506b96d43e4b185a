"""Commands that control executions, one or many, without starting a runner."""

from __future__ import annotations

import sys
from functools import wraps

import click

from cloaca._cli._filters import Filter, filter_options
from cloaca._cli._ids import execution_id, newest
from cloaca._cli._options import COMMAND_SETTINGS, Database, database_options
from cloaca._cli._output import note, one_line, print_json, print_table, say
from cloaca._values.exceptions import CloacaException, WorkflowError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from cloaca._core import Inspector, Reads
    from cloaca._executions.result import WorkflowResult

    Command = TypeVar("Command", bound=Callable[..., Any])

# The word for each completed action in the command's output.
_DONE = {"cancel": "cancelled", "pause": "paused", "resume": "resumed", "retry": "runs again"}
# The states of the executions that each action applies to if a filter has no `--status`.
_STATUSES = {
    "cancel": ["Pending", "Running", "Paused"],
    "pause": ["Pending", "Running"],
    "resume": ["Paused"],
    "retry": ["Failed"],
}


def _controls(command: Command) -> Command:
    """Adds the arguments that choose executions, and the options for changing many executions."""

    @click.argument("ids", nargs=-1, metavar="[ID]...")
    @click.option("--last", is_flag=True, help="Take the newest execution instead of an ID.")
    @filter_options
    @click.option(
        "--all", "everything", is_flag=True, help="All executions that the action applies to."
    )
    @click.option(
        "--dry-run", is_flag=True, help="Only list the executions that the command would change."
    )
    @click.option("-y", "--yes", is_flag=True, help="Do not ask before changing many executions.")
    @database_options
    @wraps(command)
    def wrapped(**given: Any) -> Any:
        return command(**given)

    return wrapped  # type: ignore[return-value]


def _control(
    action: str,
    database: Database,
    as_json: bool,
    ids: tuple[str, ...],
    last: bool,
    wanted: Filter,
    everything: bool,
    dry_run: bool,
    yes: bool,
    from_task: str | None = None,
    from_step: str | None = None,
) -> None:
    is_bulk = bool(wanted) or everything
    if bool(ids) + last + is_bulk != 1:
        raise click.UsageError(
            "choose the executions in exactly one way: by IDs, --last, filters like --workflow, "
            "or --all"
        )
    inspector = database.inspect()
    if not is_bulk:
        chosen = [newest(inspector.reads)] if last else _named(inspector.reads, ids)
        if len(chosen) == 1 and not dry_run:
            _control_one(inspector, as_json, chosen[0], action, from_task, from_step)
            return
        results = [_result(inspector.reads, id) for id in chosen]
    else:
        wanted.narrow(_STATUSES[action])
        results = wanted.all(inspector.reads)
        if not results:
            if as_json:
                print_json({"action": action, "dry_run": dry_run, "items": []})
            else:
                note(f"no execution to {action}")
            return
    if dry_run:
        _tell_plan(as_json, action, results)
        return
    if is_bulk and not yes:
        _confirm(as_json, action, len(results))
    _control_many(inspector, as_json, results, action, from_task, from_step)


def _named(reads: Reads, ids: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(execution_id(reads, id) for id in ids))


def _result(reads: Reads, id: str) -> WorkflowResult:
    from cloaca._executions.result import WorkflowResult

    return WorkflowResult(reads.execution(id))


def _change(
    inspector: Inspector, id: str, action: str, from_task: str | None, from_step: str | None
) -> str:
    """Applies an action to an execution, and returns the execution's new state.

    Raises:
        CloacaException: The action was refused, for example because the execution to cancel has
            already ended.
    """
    if action != "cancel":
        return inspector.control(id, action, from_task, from_step)
    if not inspector.cancel(id):
        result = _result(inspector.reads, id)
        raise WorkflowError(
            f"execution {id} of workflow '{result.workflow_name}' has ended as {result.status}; "
            "there is nothing to cancel"
        )
    return "Cancelled"


def _control_one(
    inspector: Inspector,
    as_json: bool,
    id: str,
    action: str,
    from_task: str | None,
    from_step: str | None,
) -> None:
    status = _change(inspector, id, action, from_task, from_step)
    if as_json:
        print_json({"execution_id": id, "action": action, "status": status})
    else:
        say(f"{id}  {_DONE[action]}: {status}")


def _tell_plan(as_json: bool, action: str, results: list[WorkflowResult]) -> None:
    if as_json:
        items = [_item(result, str(result.status)) for result in results]
        print_json({"action": action, "dry_run": True, "items": items})
        return
    print_table(
        ("execution", "workflow", "status"),
        ([result.execution_id, result.workflow_name, str(result.status)] for result in results),
        cut=("workflow",),
    )
    note(f"would {action} {_count(len(results))}")


def _confirm(as_json: bool, action: str, number: int) -> None:
    if as_json or not sys.stdin.isatty():
        raise click.UsageError(f"this would {action} {_count(number)}: confirm it with --yes")
    if not click.confirm(f"{action} {_count(number)}?", err=True):
        note("nothing was changed")
        raise click.exceptions.Exit(1)


def _control_many(
    inspector: Inspector,
    as_json: bool,
    results: list[WorkflowResult],
    action: str,
    from_task: str | None,
    from_step: str | None,
) -> None:
    items = []
    failed = 0
    for result in results:
        id = result.execution_id
        try:
            status = _change(inspector, id, action, from_task, from_step)
        except CloacaException as error:
            failed += 1
            items.append({**_item(result, str(result.status)), "error": str(error)})
            if not as_json:
                note(f"error: {id}: {one_line(str(error))}")
            continue
        items.append({**_item(result, status), "error": None})
        if not as_json:
            say(f"{id}  {_DONE[action]}: {status}")
    if as_json:
        print_json({"action": action, "dry_run": False, "items": items})
    elif len(results) > 1:
        note(f"changed {len(results) - failed} of {_count(len(results))}")
    if failed:
        raise click.exceptions.Exit(1)


def _item(result: WorkflowResult, status: str) -> dict[str, Any]:
    return {
        "execution_id": result.execution_id,
        "workflow_name": result.workflow_name,
        "status": status,
    }


def _count(number: int) -> str:
    return "1 execution" if number == 1 else f"{number} executions"


@click.command(context_settings=COMMAND_SETTINGS)
@_controls
def cancel(**given: Any) -> None:
    """Cancel executions: no more of their tasks start, and running coroutines are cancelled.

    A filter without --status chooses executions that have not ended.
    """
    _control("cancel", **given)


@click.command(context_settings=COMMAND_SETTINGS)
@_controls
def pause(**given: Any) -> None:
    """Pause executions: no new tasks start, running tasks finish, clocks of delays stop.

    A filter without --status chooses pending and running executions.
    """
    _control("pause", **given)


@click.command(context_settings=COMMAND_SETTINGS)
@_controls
def resume(**given: Any) -> None:
    """Resume paused executions.

    A filter without --status chooses paused executions.
    """
    _control("resume", **given)


@click.command(context_settings=COMMAND_SETTINGS)
@click.option("--from-task", metavar="TASK", help="Also run this task and its descendants again.")
@click.option(
    "--from-step",
    metavar="KEY",
    help="A recorded step; run its task again, starting with this step.",
)
@_controls
def retry(**given: Any) -> None:
    """Run the failed tasks of ended executions again; completed tasks keep their results.

    A filter without --status chooses failed executions.
    """
    _control("retry", **given)
