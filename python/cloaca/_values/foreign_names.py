"""Hints for names of other tools, for which `cloaca` has other names."""

from __future__ import annotations

_WORKFLOW = "cloaca.WorkflowBuilder('name') for a graph, @cloaca.workflow for one function"
_RUNNER = "cloaca.DefaultRunner('sqlite:///app.db')"
_STEP = "handle.step('key', function, ...) in a function with @cloaca.workflow"
# The names of other tools, in lower case and without underscores, with the names here.
_MEANINGS = {
    "activity": _STEP,
    "app": _RUNNER,
    "celery": _RUNNER,
    "client": _RUNNER,
    "cron": "runner.register_cron_workflow(name, expression, timezone)",
    "dag": _WORKFLOW,
    "engine": _RUNNER,
    "event": "cloaca.signal('name')",
    "flow": _WORKFLOW,
    "getrunlogger": "logging.getLogger(__name__), with the setting capture_logs=True",
    "job": "@cloaca.task",
    "op": "@cloaca.task",
    "pipeline": _WORKFLOW,
    "recv": "handle.wait('key', cloaca.signal('name'))",
    "run": "runner.execute('name')",
    "runner": _RUNNER,
    "schedule": "runner.register_cron_workflow(name, expression, timezone)",
    "send": "runner.send('name', data)",
    "sensor": "@cloaca.trigger, or cloaca.wait",
    "sharedtask": "@cloaca.task",
    "sleep": "handle.sleep('key', seconds), or cloaca.delay in wait_for=",
    "step": _STEP,
    "submit": "runner.submit('name')",
    "worker": "the command `cloaca worker module`, or runner.run_forever()",
}


def hint_for(name: str) -> str | None:
    """Returns a hint for a name that the package does not have; `None` if no other tool has it.

    Args:
        name: The name.
    """
    meaning = _MEANINGS.get(name.lower().replace("_", ""))
    return None if meaning is None else f"in cloaca: {meaning}"
