"""The commands by name, and the help that lists them.

This module does not import click, because the import would take most of the time of
`cloaca --help`.
"""

from __future__ import annotations

#: Maps each command to its module and function, and to its line in `--help`, so that `--help` is
#: printed without loading any command.
COMMANDS = {
    "run": ("running:run", "Run a workflow of a module and wait for its end."),
    "submit": ("submitting:submit", "Submit a workflow for the workers of a database."),
    "worker": ("running:worker", "Run submitted work until SIGTERM or Ctrl-C."),
    "check": ("checking:check", "Check a module's workflows, and show how tasks are connected."),
    "list": ("executions:list_command", "List executions, newest first."),
    "show": ("executions:show", "Show an execution with its tasks."),
    "events": ("executions:events", "Show the history of an execution."),
    "logs": ("executions:logs", "Show the log lines of an execution's tasks."),
    "explain": ("executions:explain", "Explain the state of an execution, schedule or trigger."),
    "watch": ("executions:watch", "Follow an execution to its end."),
    "cancel": ("control:cancel", "End executions."),
    "pause": ("control:pause", "Pause executions; running tasks finish."),
    "resume": ("control:resume", "Resume paused executions."),
    "retry": ("control:retry", "Run the failed tasks of ended executions again."),
    "rerun": ("overview:rerun", "Submit a new execution based on an earlier one."),
    "counts": ("overview:counts", "Count the executions in each state."),
    "activity": ("overview:activity", "Count the executions submitted over time."),
    "failures": ("overview:failures", "Group the failed executions by their causes."),
    "send": ("signals:send", "Send a signal to the tasks that wait for it."),
    "waits": ("signals:waits", "List the open waits of tasks."),
    "approve": ("signals:approve", "Approve an open approval."),
    "reject": ("signals:reject", "Reject an open approval."),
    "items": ("maps:items", "List the items of a map."),
    "set-map": ("maps:set_map", "Change how many items of a running map run at once."),
    "schedules": ("schedules:schedules", "Inspect schedules and triggers, switch them on and off."),
    "workflows": ("workflows:workflows", "Inspect workflow definitions."),
    "runners": ("runners:runners", "List the runners of a database."),
    "tenants": ("tenants:tenants", "Create, list and remove tenants of a PostgreSQL database."),
    "ui": ("ui:ui", "Serve the web page and the HTTP API of a database."),
    "db": ("database:db", "Migrate, check and clean up a database."),
    "bench": ("benchmark:bench", "Measure the throughput of a database."),
    "completion": ("completion:completion", "Print the completion script of a shell."),
}

#: The first lines of `--help`.
SUMMARY = """\
Run workflows, inspect and control their executions.

Exit status: 0 success, 1 the execution or the request failed (stderr says
why), 2 wrong usage, 130 interrupted by Ctrl-C.
"""


def help_text() -> str:
    """Returns the text of `cloaca --help`. A test compares it with the help that click prints."""
    width = max(map(len, COMMANDS))
    lines = ["Usage: cloaca [OPTIONS] COMMAND [ARGS]...", ""]
    lines += [f"  {line}".rstrip() for line in SUMMARY.splitlines()]
    lines += ["", "Options:"]
    lines += ["  --version   Show the version and exit."]
    lines += ["  -h, --help  Show this message and exit.", "", "Commands:"]
    lines += [f"  {name.ljust(width)}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(lines)
