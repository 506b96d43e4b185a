"""The command that submits executions for the workers of a database, without importing code."""

from __future__ import annotations

import click

from cloaca._cli._filters import pairs, span_option, timeout_option
from cloaca._cli._input import json_context, usage_errors
from cloaca._cli._options import COMMAND_SETTINGS, PRIORITY, Database, database_options
from cloaca._cli._output import note, print_json, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime

    from cloaca._core import Context


def _at(context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    from datetime import datetime

    try:
        time = datetime.fromisoformat(text)
        return time.astimezone() if time.tzinfo is None else time
    except OverflowError:
        raise click.BadParameter(f"'{text}' is out of range") from None
    except ValueError:
        raise click.BadParameter(f"'{text}' is not an ISO time like 2026-01-31T10:00") from None


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("workflow", metavar="NAME")
@click.argument("context", required=False, metavar="[JSON|@FILE|-]", callback=json_context)
@click.option(
    "--context",
    "--input",
    "named_context",
    metavar="JSON|@FILE|-",
    callback=json_context,
    help="The input, as with `cloaca run`, instead of the second argument.",
)
@click.option("--key", metavar="KEY", help="Makes the submission idempotent.")
@click.option(
    "--delay",
    metavar="SPAN",
    callback=span_option,
    help="Start after this delay, such as 90 (seconds), 5m, 2h or 1d.",
)
@click.option("--at", metavar="TIME", callback=_at, help="Start at this ISO time, not before.")
@PRIORITY
@click.option(
    "--timeout",
    metavar="SPAN",
    callback=timeout_option,
    help="Maximum run time, such as 90 (seconds), 5m or 2h.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="A label to find the execution by; may be given several times.",
)
@database_options
def submit(
    database: Database,
    as_json: bool,
    workflow: str,
    context: Context | None,
    named_context: Context | None,
    key: str | None,
    delay: float | None,
    at: datetime | None,
    priority: int,
    timeout: float | None,
    labels: tuple[str, ...],
) -> None:
    """Submit a workflow that a worker runs, and print the id of the execution.

    NAME is the name of a workflow that a program has stored in the database, so the command does
    not need the workflow's module. The input is a JSON object, `@` and the name of a file with a
    JSON object, or `-` for stdin. The input must have the shape that the workflow declares.
    """
    from cloaca._executions.submission import request

    if context is not None and named_context is not None:
        raise click.UsageError("the input is given twice: as the second argument and as --input")
    inspector = database.inspect()
    with usage_errors():
        submitted = inspector.submit(
            request(
                workflow,
                context if named_context is None else named_context,
                key=key,
                priority=priority,
                delay=delay,
                at=at,
                timeout=timeout,
                labels=dict(pairs(labels)) or None,
            )
        )
    id = submitted.execution_id
    runners = [runner for runner in inspector.reads.runners() if runner.is_alive]
    able = [runner.runner_id for runner in runners if workflow in runner.workflows]
    if as_json:
        print_json(
            {
                "execution_id": id,
                "workflow_name": workflow,
                "status": inspector.reads.status(id),
                "is_new": submitted.created,
                "live_runners": len(able),
            }
        )
        return
    say(id)
    if not submitted.created:
        note(f"nothing was submitted: this earlier execution has the key '{key}'")
    elif not able:
        note(
            f"no live runner has workflow '{workflow}': the execution waits for one\n"
            "hint: start one with `cloaca worker MODULE`"
        )
