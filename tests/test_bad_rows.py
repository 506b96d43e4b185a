"""A row that this release cannot read affects only the row's own execution or schedule."""

from __future__ import annotations

import subprocess
import sys

import cloaca
from processes import until

EDIT = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30)
connection.execute(sys.argv[2])
connection.commit()
"""


def edit(database: str, statement: str) -> None:
    """Changes the database from another process."""
    if database.startswith("sqlite"):
        path = database.removeprefix("sqlite:///")
        command = [sys.executable, "-c", EDIT, path, statement]
    else:
        command = ["psql", "--quiet", "--no-psqlrc", database, "--command", statement]
    subprocess.run(command, check=True)


def define(name: str) -> None:
    with cloaca.WorkflowBuilder(name):

        @cloaca.task(id="only")
        def only(context: cloaca.Context) -> None:
            pass


def test_unreadable_schedule_does_not_stop_other_schedules(database: str) -> None:
    define("badrows_good")
    define("badrows_bad")
    with cloaca.DefaultRunner(database) as runner:
        runner.register_cron_workflow("badrows_bad", "* * * * * *", "UTC")
        good = runner.register_cron_workflow("badrows_good", "* * * * * *", "UTC")
        for column, nonsense in (("spec", "{}"), ("state", "nonsense")):
            change = f"UPDATE cloacina_schedules SET {column} = '{nonsense}'"
            edit(database, f"{change} WHERE workflow = 'badrows_bad'")
            fired = len(runner.get_cron_execution_history(good))
            until(
                "the readable schedule fires",
                lambda fired=fired: len(runner.get_cron_execution_history(good)) >= fired + 2,
            )


def test_unreadable_execution_does_not_affect_other_executions(database: str) -> None:
    define("badrows_one")
    with cloaca.DefaultRunner(database) as runner:
        ids = [runner.submit("badrows_one", delay=3600).id for _ in range(3)]
    is_sqlite = database.startswith("sqlite")
    bad = f"x'{ids[1].replace('-', '')}'" if is_sqlite else f"'{ids[1]}'"
    edit(database, f"UPDATE cloacina_inputs SET input = 'nonsense' WHERE execution_id = {bad}")
    edit(database, "UPDATE cloacina_tasks SET ready_at = NULL")
    edit(database, "UPDATE cloacina_executions SET start_at = NULL, revision = revision + 1")
    with cloaca.DefaultRunner(database) as runner:
        for id in (ids[0], ids[2]):
            assert runner.get_handle(id).result(timeout=60).status == "Completed"
        assert runner.execute("badrows_one").status == "Completed"
