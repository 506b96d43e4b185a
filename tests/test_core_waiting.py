"""Tests of `cloaca._core`: loop wakers, waiting calls, Ctrl-C, forks, exit and log records."""

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
from core_host import COMPLETED, SETTINGS, CoreHost, once, request


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'core.db'}"


@pytest.fixture
def host(url: str) -> Iterator[CoreHost]:
    host = CoreHost(url)
    yield host
    host.close()


def is_readable(waker: _core.LoopWaker, seconds: float = 0) -> bool:
    return bool(select.select([waker.fileno()], [], [], seconds)[0])


def test_a_waker_is_readable_until_all_completions_are_fetched(host: CoreHost) -> None:
    release = threading.Event()
    host.functions = {"a": lambda work: release.wait(20) and None}
    host.define("one", once("a"))
    ids = [host.submit("one") for _ in range(3)]
    waker = _core.LoopWaker()
    tokens = {host.runner.subscribe(waker, id): id for id in ids}
    assert len(tokens) == 3
    assert not is_readable(waker)
    release.set()
    ended: dict[int, str] = {}
    while len(ended) < 3:
        assert is_readable(waker, 20)
        for end in waker.completed():
            assert end.execution is not None
            ended[end.token] = end.execution.execution_id
    assert ended == tokens
    assert not is_readable(waker)
    # The execution has already ended, so the waker is notified at once.
    token = host.runner.subscribe(waker, ids[0])
    assert is_readable(waker)
    assert [end.token for end in waker.completed()] == [token]


def test_a_waker_is_notified_when_its_runner_stops(host: CoreHost) -> None:
    host.define("never", once("a", kind="external"))
    id = host.runner.submit([request("never", delay_us=3_600_000_000)])[0].execution_id
    waker = _core.LoopWaker()
    token, dropped = host.runner.subscribe(waker, id), host.runner.subscribe(waker, id)
    host.runner.unsubscribe(dropped)
    host.close()
    assert is_readable(waker)
    (end,) = waker.completed()
    assert (end.token, end.execution) == (token, None)
    with pytest.raises(RunnerClosedError):
        host.runner.subscribe(waker, id)


def test_a_closed_waker_is_not_notified(host: CoreHost) -> None:
    host.define("one", once("a"))
    waker = _core.LoopWaker()
    waker.close()
    waker.close()
    with pytest.raises(ValueError, match="closed"):
        waker.fileno()
    host.runner.subscribe(waker, host.execute("one").execution_id)


def test_the_loop_is_requested_once_and_woken_for_work(host: CoreHost) -> None:
    host.define("first", once("a", kind="async"), executor="loop")
    host.define("second", once("a", kind="async"), executor="loop")
    host.wait_for(_core.LoopWanted)
    waker = host.runner.loop_waker
    submitted = host.runner.submit([request("first") for _ in range(5)])
    ids = [execution.execution_id for execution in submitted]
    done = 0
    while done < 5:
        assert is_readable(waker, 20)
        assert waker.completed() == []
        while taken := host.runner.take_async(2):
            assert len(taken) <= 2
            for work in taken:
                done += not work.callback
                host.runner.finish_async(work, COMPLETED)
    for id in ids:
        ended = host.runner.wait(id, None)
        assert ended is not None
        assert ended.status == "Completed"
    assert len(host.events_of_kind(_core.LoopWanted)) == 1


def test_the_loop_is_notified_of_timeouts_and_cancels(host: CoreHost) -> None:
    host.define("late", once("a", kind="async", timeout=50_000), executor="loop")
    host.define("long", once("a", kind="async"), executor="loop")
    ids = [host.submit("late"), host.submit("long")]
    waker, told, works = host.runner.loop_waker, dict[int, str](), dict[int, _core.Work]()
    cancelled = False
    while len(told) < 2:
        assert is_readable(waker, 20)
        waker.completed()
        told |= {notice.token: notice.reason for notice in host.runner.async_notices()}
        works |= {work.token: work for work in host.runner.take_async(10) if not work.callback}
        if len(works) == 2 and not cancelled:
            cancelled = host.runner.control(ids[1], "cancel") == "Cancelled"
    assert {works[token].workflow_name: what for token, what in told.items()} == {
        "late": "overrun",
        "long": "cancelled",
    }
    for work in works.values():
        host.runner.finish_async(work, COMPLETED)
    ends = [host.runner.wait(id, None) for id in ids]
    assert [end and end.status for end in ends] == ["Failed", "Cancelled"]


def test_wait_returns_at_its_timeout(host: CoreHost) -> None:
    host.define("later", once("a"))
    id = host.runner.submit([request("later", delay_us=3_600_000_000)])[0].execution_id
    assert host.runner.wait(id, 1000) is None
    assert host.runner.wait(id, 0) is None
    load = host.runner.load()
    assert (load.running, load.waiting) == (0, 0)


@pytest.mark.parametrize("how", ["wait", "execute", "stop"])
def test_ctrl_c_interrupts_a_waiting_call(host: CoreHost, how: str) -> None:
    release, entered = threading.Event(), threading.Event()

    def task(work: _core.Work) -> None:
        entered.set()
        release.wait(20)

    def press() -> None:
        entered.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    def stop() -> None:
        host.submit("one")
        entered.wait(20)
        host.runner.stop(20_000_000)

    host.functions = {"a": task}
    host.define("one", once("a"))
    calls: dict[str, Callable[[], object]] = {
        "wait": lambda: host.runner.wait(host.submit("one"), None),
        "execute": lambda: host.execute("one"),
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


def test_waiting_threads_let_other_threads_run(host: CoreHost) -> None:
    host.functions = {"a": lambda work: None}
    host.define("one", once("a"))
    statuses: list[str] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(host.execute("one").status))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == ["Completed"] * 20


def test_waiting_threads_wake_up_when_the_runner_stops(host: CoreHost) -> None:
    host.define("later", once("a"))
    id = host.runner.submit([request("later", delay_us=3_600_000_000)])[0].execution_id
    errors: list[BaseException] = []
    waiting = threading.Semaphore(0)

    def wait() -> None:
        waiting.release()
        try:
            host.runner.wait(id, None)
        except RunnerClosedError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
        waiting.acquire()
    host.close()
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
request = _core.SubmitRequest("one")
waker = _core.LoopWaker()
calls = [
    lambda: runner.submit([request]),
    lambda: runner.execute(request),
    lambda: runner.wait(id, None),
    lambda: runner.subscribe(waker, id),
    lambda: runner.reads.status(id),
    lambda: runner.reads.events(id),
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
    own = _core.Runner(sys.argv[1] + "2", sys.argv[2])  # on a file that the parent never opened
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


def test_forked_child_cannot_call_inherited_objects_but_can_delete_them(url: str) -> None:
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
runner.register(workflow, {"a": _core.TaskHandler("threads", 1, False, False)})
id = runner.submit([_core.SubmitRequest("w", delay_us=3_600_000_000)])[0].execution_id
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


def test_interpreter_exit_with_open_runners_neither_hangs_nor_crashes(url: str) -> None:
    done = run_script(LEFT_OPEN, url, json.dumps(SETTINGS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_deleting_a_runner_ends_its_threads(url: str) -> None:
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


def test_log_records_of_the_engine_reach_the_supervisor(host: CoreHost, url: str) -> None:
    host.runner.set_log_level(10)
    assert run_script(KILLED, url, json.dumps(SETTINGS)).returncode == -signal.SIGKILL
    record = host.wait_for(_core.LogRecord)
    assert record.target.startswith("cloacina")
    assert record.level in {10, 20}
    assert isinstance(record.message, str)
    assert all(isinstance(value, (str, int, float, bool)) for value in record.fields.values())


def test_helper_functions_return_plausible_values() -> None:
    assert abs(_core.now_us() - time.time_ns() // 1000) < 5_000_000
    assert _core.nearest("exract", ["load", "extract"]) == "extract"
    assert _core.nearest("zzz", ["load"]) is None
    assert _core.__version__
