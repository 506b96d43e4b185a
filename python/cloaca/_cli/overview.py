"""Commands that count executions, group failures by cause, and submit executions again."""

from __future__ import annotations

import click

from cloaca._cli._filters import moment, pairs
from cloaca._cli._ids import execution_id, shorten
from cloaca._cli._input import json_context
from cloaca._cli._options import COMMAND_SETTINGS, VERBOSE, Database, database_options
from cloaca._cli._output import ago, is_terminal, iso, note, print_json, print_table, say, time_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca._core import Context


@click.command(context_settings=COMMAND_SETTINGS)
@database_options
def counts(database: Database, as_json: bool) -> None:
    """Count the executions in each state.

    A `+` means that there may be more executions: each state is counted only up to 10,000, and
    completed executions only among the newest 20,000.
    """
    from cloaca._executions.overview import counts_of

    found = counts_of(database.inspect().reads)
    if as_json:
        print_json(
            {
                status: {"value": count.value, "is_exact": count.is_exact}
                for status, count in found.items()
            }
        )
        return
    print_table(("state", "executions"), ([status, str(count)] for status, count in found.items()))


@click.command(context_settings=COMMAND_SETTINGS)
@click.option(
    "--since",
    metavar="TIME",
    default="24h",
    show_default=True,
    help="The start of the time range: an ISO time, or a span before now like 2h.",
)
@click.option("--until", metavar="TIME", help="The end of the time range; now if omitted.")
@click.option(
    "--buckets",
    type=click.IntRange(1, 200),
    default=24,
    show_default=True,
    help="Number of intervals.",
)
@database_options
def activity(
    database: Database, as_json: bool, since: str, until: str | None, buckets: int
) -> None:
    """Count the executions submitted in each interval, and how many of them have failed."""
    from cloaca._core import now_us
    from cloaca._executions.overview import activity_of

    since_us, until_us = moment(since), now_us() if until is None else moment(until)
    found = activity_of(database.inspect().reads, since_us, until_us, buckets)
    if as_json:
        print_json(
            [
                {
                    "since": iso(bucket.since),
                    "until": iso(bucket.until),
                    "submitted": {
                        "value": bucket.submitted.value,
                        "is_exact": bucket.submitted.is_exact,
                    },
                    "failed": {"value": bucket.failed.value, "is_exact": bucket.failed.is_exact},
                }
                for bucket in found
            ]
        )
        return
    print_table(
        ("since", "submitted", "failed"),
        ([time_text(bucket.since), str(bucket.submitted), str(bucket.failed)] for bucket in found),
    )


@click.command(context_settings=COMMAND_SETTINGS)
@click.option(
    "--since",
    metavar="TIME",
    help="Only executions submitted since this time: an ISO time, or a span before now like 2h.",
)
@VERBOSE
@database_options
def failures(database: Database, as_json: bool, since: str | None, verbose: bool) -> None:
    """Group the failed executions by their causes, the newest failure first."""
    from cloaca._executions.overview import failures_of

    found = failures_of(database.inspect().reads, None if since is None else moment(since))
    if as_json:
        print_json(
            [
                {
                    "workflow_name": group.workflow,
                    "task_id": group.task_id,
                    "type": group.type,
                    "cause": group.cause,
                    "message": group.message,
                    "count": group.count,
                    "first_at": iso(group.first),
                    "last_at": iso(group.last),
                    "execution_ids": list(group.execution_ids),
                }
                for group in found
            ]
        )
        return
    if not found:
        note("no failed execution was found")
        return
    is_short = is_terminal() and not verbose
    ids = shorten(group.execution_ids[0] for group in found)
    time_format = ago if is_short else time_text
    print_table(
        ("count", "workflow", "task", "last", "newest", "error"),
        (
            [
                str(group.count),
                group.workflow,
                group.task_id or "",
                time_format(group.last),
                ids[group.execution_ids[0]] if is_short else group.execution_ids[0],
                f"{group.type}: {group.message}",
            ]
            for group in found
        ),
        cut=("error", "workflow", "task"),
        verbose=verbose,
    )


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("id", metavar="ID")
@click.argument("context", required=False, metavar="[JSON|@FILE|-]", callback=json_context)
@click.option("--latest", is_flag=True, help="Run the latest stored version of the workflow.")
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="A label, in place of the earlier execution's labels; may be given several times.",
)
@click.option("--note", "reason", metavar="TEXT", help="The reason, for the history.")
@database_options
def rerun(
    database: Database,
    as_json: bool,
    id: str,
    context: Context | None,
    latest: bool,
    labels: tuple[str, ...],
    reason: str | None,
) -> None:
    """Submit a new execution with the input and options of an earlier one, and print its id.

    The new execution has the input, the version, the labels, the priority and the timeout of the
    earlier execution, but no key. To replace the input, give a JSON object, `@` and the name of a
    file with a JSON object, or `-` for stdin.
    """
    inspector = database.inspect()
    earlier = execution_id(inspector.reads, id)
    new = inspector.rerun(earlier, context, latest, dict(pairs(labels)) or None, _user(), reason)
    if as_json:
        print_json({"execution_id": new, "rerun_of": earlier})
    else:
        say(new)


def _user() -> str | None:
    """Returns the name of the user who runs the command, for the history; `None` if unknown."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None
