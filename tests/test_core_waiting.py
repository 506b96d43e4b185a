"""Ports, waiting, signals, forks, the end of the interpreter, and log records of `cloaca._core`."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloaca import _core
from cloaca._values.exceptions import (
    RunnerClosedError,
)
from core_crew import SETTINGS, Crew, once, request


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'core.db'}"


@pytest.fixture
def crew(url: str) -> Iterator[Crew]:
    crew = Crew(url)
    yield crew
    crew.close()


def is_readable(port: _core.Port, seconds: float = 0) -> bool:
    return bool(select.select([port.fileno()], [], [], seconds)[0])


def test_a_port_is_readable_while_something_is_to_fetch(crew: Crew) -> None:
    release = threading.Event()
    crew.functions = {"a": lambda work: release.wait(20) and None}
    crew.define("one", once("a"))
    ids = [crew.submit("one") for _ in range(3)]
    port = _core.Port()
    tokens = {crew.runner.subscribe(port, id): id for id in ids}
    assert len(tokens) == 3
    assert not is_readable(port)
    release.set()
    ended: dict[int, str] = {}
    while len(ended) < 3:
        assert is_readable(port, 20)
        for token, execution in port.completed():
            assert execution is not None
            ended[token] = execution.execution_id
    assert ended == tokens
    assert not is_readable(port)
    # Ended already: told at once.
    token = crew.runner.subscribe(port, ids[0])
    assert is_readable(port)
    assert [told for told, _ in port.completed()] == [token]


def test_a_port_hears_of_the_end_of_its_runner(crew: Crew) -> None:
    crew.define("never", once("a", kind="external"))
    id = crew.runner.submit([("never", None, None, 0, 3_600_000_000, None, None)])[0]
    port = _core.Port()
    token, dropped = crew.runner.subscribe(port, id), crew.runner.subscribe(port, id)
    crew.runner.unsubscribe(dropped)
    crew.close()
    assert is_readable(port)
    assert port.completed() == [(token, None)]
    with pytest.raises(RunnerClosedError):
        crew.runner.subscribe(port, id)


def test_a_closed_port_hears_nothing(crew: Crew) -> None:
    crew.define("one", once("a"))
    port = _core.Port()
    port.close()
    port.close()
    with pytest.raises(ValueError, match="closed"):
        port.fileno()
    crew.runner.subscribe(port, crew.execute("one").execution_id)


def test_the_loop_is_asked_for_once_and_takes_through_its_port(crew: Crew) -> None:
    crew.define("first", once("a", kind="async"), executor="loop")
    crew.define("second", once("a", kind="async"), executor="loop")
    crew.wait_for("loop_wanted")
    port = crew.runner.loop_port
    ids = crew.runner.submit([request("first") for _ in range(5)])
    done = 0
    while done < 5:
        assert is_readable(port, 20)
        assert port.completed() == []
        while taken := crew.runner.take_async(2):
            assert len(taken) <= 2
            for work in taken:
                done += not work.callback
                crew.runner.finish_async(work, ("completed",))
    for id in ids:
        ended = crew.runner.wait(id, None)
        assert ended is not None
        assert ended.status == "Completed"
    assert len(crew.heard("loop_wanted")) == 1


def test_the_loop_hears_of_timeouts_and_cancels(crew: Crew) -> None:
    crew.define("late", once("a", kind="async", timeout=50_000), executor="loop")
    crew.define("long", once("a", kind="async"), executor="loop")
    ids = [crew.submit("late"), crew.submit("long")]
    port, told, works = crew.runner.loop_port, dict[int, str](), dict[int, _core.Work]()
    cancelled = False
    while len(told) < 2:
        assert is_readable(port, 20)
        port.completed()
        told |= {token: what for what, token in crew.runner.async_notices()}
        works |= {work.token: work for work in crew.runner.take_async(10) if not work.callback}
        if len(works) == 2 and not cancelled:
            cancelled = crew.runner.control(ids[1], "cancel") == "Cancelled"
    assert {works[token].workflow_name: what for token, what in told.items()} == {
        "late": "overrun",
        "long": "cancelled",
    }
    for work in works.values():
        crew.runner.finish_async(work, ("completed",))
    ends = [crew.runner.wait(id, None) for id in ids]
    assert [end and end.status for end in ends] == ["Failed", "Cancelled"]


def test_waiting_ends_when_its_time_is_over(crew: Crew) -> None:
    crew.define("later", once("a"))
    id = crew.runner.submit([("later", None, None, 0, 3_600_000_000, None, None)])[0]
    assert crew.runner.wait(id, 1000) is None
    assert crew.runner.wait(id, 0) is None
    assert crew.runner.load() == (0, 0)


@pytest.mark.parametrize("how", ["wait", "execute", "stop"])
def test_ctrl_c_interrupts_a_call_that_waits(crew: Crew, how: str) -> None:
    release, entered = threading.Event(), threading.Event()

    def task(work: _core.Work) -> None:
        entered.set()
        release.wait(20)

    def press() -> None:
        entered.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    def stop() -> None:
        crew.submit("one")
        entered.wait(20)
        crew.runner.stop(20_000_000)

    crew.functions = {"a": task}
    crew.define("one", once("a"))
    calls: dict[str, Callable[[], object]] = {
        "wait": lambda: crew.runner.wait(crew.submit("one"), None),
        "execute": lambda: crew.execute("one"),
        "stop": stop,
    }
    presser = threading.Thread(target=press)
    presser.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        calls[how]()
    assert time.monotonic() - began < 5
    presser.join()
    release.set()


def test_a_thread_that_waits_lets_others_run(crew: Crew) -> None:
    crew.functions = {"a": lambda work: None}
    crew.define("one", once("a"))
    statuses: list[str] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(crew.execute("one").status))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == ["Completed"] * 20


def test_waiting_threads_hear_of_the_end_of_the_runner(crew: Crew) -> None:
    crew.define("later", once("a"))
    id = crew.runner.submit([("later", None, None, 0, 3_600_000_000, None, None)])[0]
    errors: list[BaseException] = []
    waiting = threading.Semaphore(0)

    def wait() -> None:
        waiting.release()
        try:
            crew.runner.wait(id, None)
        except RunnerClosedError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
        waiting.acquire()
    crew.close()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 3


FORK = """
import json, os, sys, threading
from cloaca import _core
from cloaca._values.exceptions import CLASS_BY_CODE, ForkedProcessError

_core.set_exceptions(dict(CLASS_BY_CODE))
os.register_at_fork(after_in_child=_core.after_fork_child)
runner = _core.Runner(sys.argv[1], sys.argv[2])
id = "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"
request = ("one", None, None, 0, None, None, None)
port = _core.Port()
calls = [
    lambda: runner.submit([request]),
    lambda: runner.execute(request),
    lambda: runner.wait(id, None),
    lambda: runner.subscribe(port, id),
    lambda: runner.status(id),
    lambda: runner.events(id),
    lambda: runner.control(id, "cancel"),
    lambda: runner.next_work(1),
    lambda: runner.supervise(),
    lambda: runner.take_async(1),
    lambda: runner.stop(0),
]
child = os.fork()
if child == 0:
    refused = 0
    for call in calls:
        try:
            call()
        except ForkedProcessError as error:
            refused += error.code == "forked" and "fork" in error.hint
    del runner, calls, call
    own = _core.Runner(sys.argv[1] + "2", sys.argv[2])  # on a file that its parent never opened
    own.stop(0)
    os._exit(refused)
_, status = os.waitpid(child, 0)
runner.stop(0)
print(os.waitstatus_to_exitcode(status), len(calls))
"""


def run_script(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )


def test_a_forked_child_is_refused_and_may_drop_what_it_inherited(url: str) -> None:
    done = run_script(FORK, url, json.dumps(SETTINGS))
    assert done.returncode == 0, done.stderr
    refused, calls = done.stdout.split()
    assert refused == calls


LEFT_OPEN = """
import json, sys, threading
from cloaca import _core
from cloaca._values.exceptions import CLASS_BY_CODE

_core.set_exceptions(dict(CLASS_BY_CODE))
runner = _core.Runner(sys.argv[1], sys.argv[2])
workflow = _core.Workflow.build(json.dumps({"name": "w", "tasks": [{"id": "a"}]}))
runner.register(workflow, {"a": ("threads", 1, False, False)})
id = runner.submit([("w", None, None, 0, 3_600_000_000, None, None)])[0]
started = threading.Semaphore(0)

def begin(call):
    threading.Thread(target=lambda: (started.release(), call()), daemon=True).start()

for number in range(3):
    begin(lambda: runner.next_work(number))
    begin(lambda: runner.wait(id, None))
    begin(runner.supervise)
for _ in range(9):
    started.acquire()
print("end")
"""


def test_an_interpreter_that_ends_with_open_runners_neither_hangs_nor_crashes(url: str) -> None:
    done = run_script(LEFT_OPEN, url, json.dumps(SETTINGS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_a_runner_that_is_dropped_ends_its_threads(url: str) -> None:
    before = threads_of_this_process()
    runner = _core.Runner(url, json.dumps(SETTINGS))
    assert threads_of_this_process() > before
    del runner
    assert threads_of_this_process() == before


def threads_of_this_process() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


KILLED = """
import os, signal, sys
from cloaca import _core

runner = _core.Runner(sys.argv[1], sys.argv[2])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_log_records_of_the_engine_reach_the_supervisor(crew: Crew, url: str) -> None:
    crew.runner.set_log_level(10)
    assert run_script(KILLED, url, json.dumps(SETTINGS)).returncode == -signal.SIGKILL
    _, level, target, message, fields = crew.wait_for("log")
    assert target.startswith("cloacina")
    assert level in {10, 20}
    assert isinstance(message, str)
    assert all(isinstance(value, (str, int, float, bool)) for value in fields.values())


def test_helpers() -> None:
    assert abs(_core.now_us() - time.time_ns() // 1000) < 5_000_000
    assert _core.nearest("exract", ["load", "extract"]) == "extract"
    assert _core.nearest("zzz", ["load"]) is None
    assert _core.__version__
