"""Commands that read runners."""

from __future__ import annotations

import click

from cloaca._cli._options import HELP_NAMES, Database, database_options
from cloaca._cli._output import iso, print_json, print_table, told_time


@click.command(context_settings=HELP_NAMES)
@database_options
def runners(database: Database, as_json: bool) -> None:
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
    print_table(
        ("id", "host", "pid", "state", "started", "heartbeat", "workflows"),
        (
            [
                runner.runner_id,
                runner.host,
                str(runner.pid),
                "alive" if runner.is_alive else "dead",
                told_time(us_to_instant(runner.started_at_us)),
                told_time(us_to_instant(runner.heartbeat_at_us)),
                ", ".join(runner.workflows),
            ]
            for runner in found
        ),
    )
