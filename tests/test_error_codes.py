"""Every error code has a function here that raises it, and is listed in the reference."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import cloaca
from cloaca import _core
from cloaca._values.exceptions import CLASS_BY_CODE
from cloaca.testing import run_task

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "errors.md"


def define(
    name: str, body: Callable[..., object] = lambda context: None, **options: object
) -> None:
    with cloaca.WorkflowBuilder(name):
        cloaca.task(id="only", **options)(body)  # type: ignore[call-overload]


def fail(context: cloaca.Context) -> None:
    raise ValueError("boom")


def workflow_invalid(tmp_path: Path) -> None:
    with cloaca.WorkflowBuilder("empty"):
        pass


def workflow_not_found(tmp_path: Path) -> None:
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.execute("unknown")


def workflow_failed(tmp_path: Path) -> None:
    define("fails", fail, retry_attempts=1)
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.execute("fails").raise_for_status()


def workflow_cancelled(tmp_path: Path) -> None:
    def snooze(context: cloaca.Context) -> None:
        raise cloaca.Snooze(60)

    define("unwanted", snooze)
    with cloaca.DefaultRunner(":memory:") as runner:
        handle = runner.submit("unwanted")
        handle.cancel()
        handle.result(timeout=10).raise_for_status()


def workflow_timeout(tmp_path: Path) -> None:
    def snooze(context: cloaca.Context) -> None:
        raise cloaca.Snooze(60)

    define("late", snooze)
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.execute("late", timeout=0.05).raise_for_status()


def task_invalid(tmp_path: Path) -> None:
    define("odd", timeout=-1)


def workflow_input_invalid(tmp_path: Path) -> None:
    with cloaca.WorkflowBuilder("typed_input", input={"n": int}):
        cloaca.task(id="only")(fail)
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.submit("typed_input", {"n": "many"})


def task_input_invalid(tmp_path: Path) -> None:
    def double(n: int) -> int:
        return 2 * n

    run_task(double, n="many")


def task_failed(tmp_path: Path) -> None:
    raise cloaca.TaskExecutionError("for tasks to raise")


def task_timeout(tmp_path: Path) -> None:
    seen: list[cloaca.TaskTimeoutError] = []

    def endless(context: cloaca.Context) -> None:
        try:
            while True:
                pass
        except cloaca.TaskTimeoutError as error:
            seen.append(error)
            raise

    define("endless", endless, timeout=0.05, retry_attempts=1)
    with cloaca.DefaultRunner(":memory:") as runner:
        error = runner.execute("endless").error
        assert error is not None
        assert error.type == "TaskTimeoutError"
    raise seen[0]


def context_invalid(tmp_path: Path) -> None:
    cloaca.Context().get_required("missing")


def configuration(tmp_path: Path) -> None:
    cloaca.DefaultRunnerConfig(max_concurrent_tasks=0)


def url_invalid(tmp_path: Path) -> None:
    cloaca.DefaultRunner("mysql://localhost/db")


def connection(tmp_path: Path) -> None:
    cloaca.DefaultRunner("postgresql://127.0.0.1:1/db?connect_timeout=2")


def database(tmp_path: Path) -> None:
    cloaca.DefaultRunner(f"sqlite:///{tmp_path}/missing/x.db")


def migration(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    cloaca.DefaultRunner(f"sqlite:///{path}").shutdown()
    # A separate process writes, because two copies of SQLite in one process must not share a file.
    code = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); "
        'db.execute("INSERT INTO cloacina_migrations(version, applied_at) "\n'
        "\"VALUES ('99999999999999', 0)\"); "
        "db.commit()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    cloaca.DefaultRunner(f"sqlite:///{path}")


def execution_not_found(tmp_path: Path) -> None:
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.get_execution("0190a0a0-0000-7000-8000-000000000000")


def execution_state(tmp_path: Path) -> None:
    define("done")
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.retry_execution(runner.execute("done").execution_id)


def schedule_invalid(tmp_path: Path) -> None:
    cloaca.cron_preview("61 * * * *", "UTC")


def schedule_not_found(tmp_path: Path) -> None:
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.get_cron_schedule("0190a0a0-0000-7000-8000-000000000000")


def claim_lost(tmp_path: Path) -> None:
    stale = []

    def late(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
        stale.append(handle._work)
        handle.runner.cancel_execution(handle.execution_id)

    define("late", late)
    with cloaca.DefaultRunner(":memory:") as runner:
        assert runner.execute("late").status == "Cancelled"
        core = runner._core
        core.record_step(stale[0], _core.StepLog(), None, "a", "step", core.clock_us, "1")


def already_decided(tmp_path: Path) -> None:
    with cloaca.WorkflowBuilder("decided"):
        cloaca.approval("approve")
    with cloaca.DefaultRunner(":memory:") as runner:
        handle = runner.submit("decided")
        runner.approve(handle, "approve", by="ann")
        runner.approve(handle, "approve", by="bob")


def child_failed(tmp_path: Path) -> None:
    define("broken", fail, retry_attempts=1)
    with cloaca.WorkflowBuilder("parent"):
        cloaca.child("node", workflow="broken")
    with cloaca.DefaultRunner(":memory:") as runner:
        error = runner.execute("parent").tasks["node"].error
    if error is not None and error.type == "ChildFailedError":
        raise cloaca.ChildFailedError(error.message)


def step_limit(tmp_path: Path) -> None:
    seen = []

    def many(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
        try:
            handle.step("a", lambda: "x" * 100)
        except cloaca.ContextError as error:
            seen.append(error)
            raise

    define("many", many, max_context_bytes=10)
    with cloaca.DefaultRunner(":memory:") as runner:
        assert runner.execute("many").tasks["only"].attempts == 1
    raise seen[0]


def deadlock(tmp_path: Path) -> None:
    seen: list[cloaca.WorkflowError] = []

    def wait_for_itself(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
        try:
            runner.get_handle(handle.execution_id).result()
        except cloaca.WorkflowError as error:
            seen.append(error)

    define("waits", wait_for_itself)
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.execute("waits")
    raise seen[0]


def wait_timeout(tmp_path: Path) -> None:
    def snooze(context: cloaca.Context) -> None:
        raise cloaca.Snooze(60)

    define("waits", snooze)
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.submit("waits").result(timeout=0.01)


def runner_closed(tmp_path: Path) -> None:
    runner = cloaca.DefaultRunner(":memory:")
    runner.shutdown()
    runner.submit("anything")


def forked(tmp_path: Path) -> None:
    code = (
        "import os, cloaca, warnings; warnings.simplefilter('ignore'); "
        "runner = cloaca.DefaultRunner(':memory:'); pid = os.fork()\n"
        "if pid == 0:\n"
        "    try: runner.submit('w')\n"
        "    except cloaca.ForkedProcessError as error: os._exit(7)\n"
        "    os._exit(1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    )
    if subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 7:
        raise cloaca.ForkedProcessError


RAISERS = {
    name: function
    for name, function in list(globals().items())
    if name in CLASS_BY_CODE and callable(function)
}


def test_every_code_has_a_function_here_that_raises_it():
    assert set(RAISERS) == set(CLASS_BY_CODE)


@pytest.mark.parametrize("code", sorted(RAISERS))
def test_an_error_has_the_expected_code(code, tmp_path):
    with pytest.raises(CLASS_BY_CODE[code]) as caught:
        RAISERS[code](tmp_path)
    assert caught.value.code == code
    assert str(caught.value)


def test_every_code_is_listed_on_the_page_of_errors():
    text = PAGE.read_text()
    for code, kind in CLASS_BY_CODE.items():
        anchor = f'<span id="{code.replace("_", "-")}"></span>'
        assert f"| {anchor}`{code}` | `{kind.__name__}` |" in text, code
