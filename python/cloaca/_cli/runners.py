"""The command that lists runners."""

from __future__ import annotations

import click

from cloaca._cli._ids import shorten
from cloaca._cli._options import COMMAND_SETTINGS, VERBOSE, Database, database_options
from cloaca._cli._output import ago, is_terminal, iso, note, print_json, print_table, time_text


@click.command(context_settings=COMMAND_SETTINGS)
@VERBOSE
@database_options
def runners(database: Database, as_json: bool, verbose: bool) -> None:
    """List the runners of a database, and the workflows that each has."""
    from cloaca._values.duration import us_to_instant

    found = database.inspect().reads.runners()
    if as_json:
        print_json(
            [
                {
                    "runner_id": runner.runner_id,
                    "host": runner.host,
                    "pid": runner.pid,
                    "started_at": iso(us_to_instant(runner.started_at_us)),
                    "heartbeat_at": iso(us_to_instant(runner.heartbeat_at_us)),
                    "lease_until": iso(us_to_instant(runner.lease_until_us)),
                    "alive": runner.is_alive,
                    "workflows": runner.workflows,
                }
                for runner in found
            ]
        )
        return
    if not found:
        note("no runner is registered: start one with `cloaca worker MODULE`")
        return
    is_short = is_terminal() and not verbose
    ids = shorten(runner.runner_id for runner in found)
    time_format = ago if is_short else time_text
    print_table(
        ("id", "host", "pid", "state", "started", "heartbeat", "workflows"),
        (
            [
                ids[runner.runner_id] if is_short else runner.runner_id,
                runner.host,
                str(runner.pid),
                "alive" if runner.is_alive else "dead",
                time_format(us_to_instant(runner.started_at_us)),
                time_format(us_to_instant(runner.heartbeat_at_us)),
                ", ".join(runner.workflows),
            ]
            for runner in found
        ),
        cut=("workflows", "host"),
        verbose=verbose,
    )
