"""Tutorial 04: retries, timeouts, and errors that need a person."""

import time

import cloaca

TRIES = {"fetch": 0}
QUOTA = {"rows": 100}
ALARMS = []


def alarm(task_id, error_text, context):
    ALARMS.append(f"{task_id}: {error_text}")


with cloaca.WorkflowBuilder("import"):

    @cloaca.task(retry_attempts=5, retry_delay_ms=20, retry_on=(ConnectionError,))
    def fetch(context):
        TRIES["fetch"] += 1
        if TRIES["fetch"] < 3:
            raise ConnectionError("the line is bad")
        context["rows"] = 120

    @cloaca.task(dependencies=[fetch], timeout=0.1, retry_attempts=2, retry_delay_ms=20)
    def transform(context, handle):
        if handle.attempt == 1:
            time.sleep(0.5)  # longer than the timeout; the second attempt is fast
        context["transformed"] = True

    @cloaca.task(dependencies=[transform], on_failure=alarm)
    def load(context):
        if context["rows"] > QUOTA["rows"]:
            raise cloaca.Abort(f"{context['rows']} rows are more than the quota")
        context["loaded"] = context["rows"]


def show(result):
    print(result.status, "-", result.error_message or "no error")
    for task_id, task in result.tasks.items():
        print(f"  {task_id:10} {task.status:10} attempts: {task.attempts}")


if __name__ == "__main__":
    with cloaca.DefaultRunner("sqlite:///import.db") as runner:
        handle = runner.submit("import")
        show(handle.result())
        for event in handle.events():
            if event.type == "task_retrying":
                print(f"  {event.task_id} was tried again: {event.data['error']['message']}")

        QUOTA["rows"] = 1000
        handle.retry()
        show(handle.result())
    print(ALARMS)
