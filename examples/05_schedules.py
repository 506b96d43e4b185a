"""Tutorial 05: a report at fixed times, and an import when a file arrives."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import cloaca

INBOX = Path("inbox.csv")
WRITTEN, IMPORTED = threading.Event(), threading.Event()

with cloaca.WorkflowBuilder("report"):

    @cloaca.task
    def write(context):
        print("to", context["to"], "by the schedule", context["schedule_expression"])
        WRITTEN.set()


with cloaca.WorkflowBuilder("import"):

    @cloaca.task
    def read(context):
        print("imported", context["path"])
        INBOX.unlink()
        IMPORTED.set()


@cloaca.trigger(on="import", poll_interval="50ms")
def new_file():
    if INBOX.exists():
        return cloaca.TriggerResult.fire({"path": str(INBOX)})
    return cloaca.TriggerResult.skip()


if __name__ == "__main__":
    start = datetime(2026, 3, 27, 12, tzinfo=UTC)
    for time in cloaca.cron_preview("30 9 * * MON-FRI", "Europe/Berlin", 2, start):
        print("would fire at", time.isoformat())

    with cloaca.DefaultRunner("sqlite:///schedules.db") as runner:
        schedule = runner.register_cron_workflow(
            "report",
            "* * * * * *",  # six fields: every second, so that there is something to see
            "Europe/Berlin",
            input={"to": "the team"},
        )
        WRITTEN.wait(30)
        runner.set_cron_schedule_enabled(schedule, False)
        print("enabled:", runner.get_cron_schedule(schedule)["enabled"])
        # A disabled schedule stays disabled when it is registered again, so delete it.
        runner.delete_cron_schedule(schedule)

        INBOX.write_text("Ada,12.50\n")
        IMPORTED.wait(30)
