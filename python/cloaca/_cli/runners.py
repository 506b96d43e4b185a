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

    found = database.inspect().runners()
    if as_json:
        print_json(
            [
                {
                    "runner_id": id,
                    "host": host,
                    "pid": pid,
                    "started_at": iso(us_to_instant(started)),
                    "heartbeat_at": iso(us_to_instant(beat)),
                    "lease_until": iso(us_to_instant(lease)),
                    "alive": alive,
                    "workflows": names,
                }
                for id, host, pid, started, beat, lease, alive, names in found
            ]
        )
        return
    print_table(
        ("id", "host", "pid", "state", "started", "heartbeat", "workflows"),
        (
            [
                id,
                host,
                str(pid),
                "alive" if alive else "dead",
                told_time(us_to_instant(started)),
                told_time(us_to_instant(beat)),
                ", ".join(names),
            ]
            for id, host, pid, started, beat, _, alive, names in found
        ),
    )
