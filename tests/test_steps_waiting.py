"""`TaskHandle.sleep` and `wait` park a task, which then waits without a worker (semantics T5)."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest

import cloaca
from cloaca.testing import VirtualRunner, crash_everywhere, run_task
from waiting_support import wait_until

#: An hour, in seconds.
HOUR = 3600


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_t5_task_is_parked_at_a_sleep_and_started_again(kind):
    calls, left, starts = [], [], []

    def call(name):
        calls.append(name)
        return name

    if kind == "sync":

        @cloaca.workflow
        def reminder(handle):
            starts.append(handle.attempt)
            try:
                handle.step("first", call, "first")
                handle.sleep("a day", "1d")
                handle.step("second", call, "second")
                handle.sleep("another day", 24 * HOUR)
                return handle.step("third", call, "third")
            finally:
                left.append(len(calls))
    else:

        @cloaca.workflow
        async def reminder(handle):
            starts.append(handle.attempt)
            try:
                await handle.step("first", call, "first")
                await handle.sleep("a day", "1d")
                await handle.step("second", call, "second")
                await handle.sleep("another day", 24 * HOUR)
                return await handle.step("third", call, "third")
            finally:
                left.append(len(calls))

    with VirtualRunner() as runner:
        handle = runner.submit("reminder")
        runner.advance(24 * HOUR - 1)
        assert calls == ["first"]
        assert left == [1]
        assert handle.status() == "Running"
        runner.advance(2)
        assert calls == ["first", "second"]
        runner.advance(24 * HOUR)
        result = handle.result()
        assert result.output == "third"
        assert calls == ["first", "second", "third"]
        # Parking does not start a new attempt.
        assert result.tasks["reminder"].attempts == 1
        assert starts == [1, 1, 1]
        kinds = [e.data["kind"] for e in handle.events() if e.type == "step_recorded"]
        assert kinds == ["step", "sleep", "step", "sleep", "step"]


def test_t5_sleeping_tasks_hold_no_worker(database):
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)

    @cloaca.workflow
    def sleeps(handle):
        handle.sleep("a while", HOUR)

    @cloaca.workflow
    def works():
        return 7

    with cloaca.DefaultRunner(database, config) as single:
        single.submit_many([("sleeps", None)] * 50)
        wait_until(lambda: len(single.waits(kind="timer", limit=100).items) == 50)
        assert single.execute("works").output == 7


def test_t5_attempt_of_a_waiting_function_has_begun_once(runner):
    @cloaca.workflow(retry_attempts=2, retry_delay_ms=1)
    def waits(handle):
        handle.sleep("nap", 0.05)
        handle.wait("answer", cloaca.signal("answer"))
        if handle.attempt == 1:
            raise ValueError("again")
        return handle.attempt

    handle = runner.submit("waits")
    wait_until(lambda: list(runner.waits()))
    parked = runner.get_execution(handle.id).tasks["waits"]
    assert (parked.status, parked.attempts) == ("Waiting", 1)
    started = [event for event in handle.events() if event.type == "task_started"]
    assert [(event.attempt, event.time) for event in started] == [(1, parked.started_at)]
    assert parked.started_at == runner.get_execution(handle.id).started_at
    runner.send("answer", to=handle)
    result = handle.result(timeout=60)
    assert (result.output, result.tasks["waits"].attempts) == (2, 2)
    events = [(event.type, event.attempt) for event in handle.events() if event.attempt]
    assert [event for event in events if event[0] != "step_recorded"] == [
        ("task_started", 1),
        ("waiting", 1),
        ("waiting", 1),
        ("task_retrying", 1),
        ("task_started", 2),
        ("task_completed", 2),
    ]


def test_t5_cancelled_wait_of_a_function_is_an_attempt(runner):
    @cloaca.workflow
    def waits(handle):
        handle.wait("answer", cloaca.signal("answer"))

    handle = runner.submit("waits")
    wait_until(lambda: list(runner.waits()))
    handle.cancel()
    task = handle.result(timeout=60).tasks["waits"]
    assert (task.status, task.attempts, task.started_at is None) == ("Cancelled", 1, False)
    ended = [event for event in handle.events() if event.type == "task_cancelled"]
    assert [event.attempt for event in ended] == [1]


def test_t5_snooze_after_a_wait_ends_the_run(runner):
    runs = []

    @cloaca.workflow
    def naps(handle):
        handle.sleep("nap", 0.01)
        runs.append(handle.attempt)
        if len(runs) == 1:
            raise cloaca.Snooze(0.5)

    handle = runner.submit("naps")
    wait_until(lambda: any(event.type == "task_snoozed" for event in handle.events()))
    snoozed = runner.get_execution(handle.id).tasks["naps"]
    assert (snoozed.status, snoozed.attempts, snoozed.started_at) == ("Ready", 0, None)
    result = handle.result(timeout=60)
    assert (runs, result.tasks["naps"].attempts) == ([1, 1], 1)
    assert result.tasks["naps"].duration.total_seconds() < 0.5
    started = [event.attempt for event in handle.events() if event.type == "task_started"]
    assert started == [1, 1]


def test_t5_task_continues_after_a_short_sleep(runner):
    @cloaca.workflow
    def naps(handle):
        start = handle.step("start", time.time)
        handle.sleep("nap", "50ms")
        return handle.step("end", time.time) - start

    assert 0.05 <= runner.execute("naps").output < 30


def test_t5_timeout_of_a_wait_is_recorded():
    seen = []

    @cloaca.workflow(retry_attempts=2, retry_delay_ms=1)
    def patient(handle):
        try:
            handle.wait("approval", cloaca.signal("never", key="k"), timeout="2h")
        except TimeoutError as error:
            seen.append(str(error))
        if handle.attempt == 1:
            raise ValueError("again")
        return "timed out"

    with VirtualRunner() as runner:
        handle = runner.submit("patient")
        runner.advance(2 * HOUR - 1)
        assert seen == []
        runner.advance(HOUR)
        assert handle.result().output == "timed out"
    assert len(seen) == 2
    assert "waited for 'approval' until its timeout" in seen[0]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_t5_wait_without_time_takes_only_a_sent_signal(runner, kind):
    options = {"timeout": 0}

    if kind == "sync":

        @cloaca.workflow
        def looks(handle):
            first = handle.wait("first", cloaca.signal("go"), **options)
            try:
                return [first, handle.wait("second", cloaca.signal("go"), **options)]
            except cloaca.WaitTimeoutError:
                return [first, "nothing"]

    else:

        @cloaca.workflow
        async def looks(handle):
            first = await handle.wait("first", cloaca.signal("go"), **options)
            try:
                return [first, await handle.wait("second", cloaca.signal("go"), **options)]
            except cloaca.WaitTimeoutError:
                return [first, "nothing"]

    handle = runner.submit("looks", delay=0.2)
    runner.send("go", 1, to=handle)
    assert handle.result(timeout=60).output == [1, "nothing"]


def test_t5_negative_timeout_of_a_wait_is_refused():
    def task(context, handle):
        handle.wait("a", cloaca.signal("go"), timeout=-1)

    with pytest.raises(cloaca.ConfigurationError, match="timeout"):
        run_task(task)


def test_t5_unhandled_wait_timeout_is_not_retried():
    @cloaca.workflow(retry_attempts=5)
    def gives_up(handle):
        handle.wait("never", cloaca.signal("never"), timeout=1)

    with VirtualRunner() as runner:
        result = runner.execute("gives_up")
    assert result.error.type == "WaitTimeoutError"
    assert result.tasks["gives_up"].attempts == 1


def test_t5_wait_for_a_timer_returns_none():
    @cloaca.workflow
    def timer(handle):
        return [handle.wait("timer", cloaca.delay(HOUR)), 1]

    with VirtualRunner() as runner:
        assert runner.execute("timer").output == [None, 1]


@pytest.mark.parametrize("kind", ["returns", "goes on", "raises"])
def test_t5_error_names_the_call_whose_task_parked_was_caught(kind):
    calls = []

    @cloaca.workflow
    def greedy(handle):
        try:
            handle.sleep("cool down", HOUR)
        except BaseException:
            if kind == "raises":
                raise ValueError("other") from None
            if kind == "goes on":
                handle.step("next", calls.append, 1)
        return 1

    with VirtualRunner() as runner:
        result = runner.execute("greedy")
        if kind == "goes on":
            # The step in the `except` block raised `TaskParked` again, so the task was parked.
            assert result.status == "Completed"
            assert calls == []
            return
        assert result.status == "Failed"
        assert "caught TaskParked" in result.error_message
        assert "handle.sleep('cool down')" in result.error_message
        assert result.tasks["greedy"].attempts == 1


def test_t5_step_gathered_with_a_sleep_is_recorded_first():
    calls = []

    async def slow(name):
        await asyncio.sleep(5)
        calls.append(name)

    @cloaca.workflow
    async def both(handle):
        await asyncio.gather(handle.step("slow", slow, "slow"), handle.sleep("hour", HOUR))
        return len(calls)

    with VirtualRunner() as runner:
        assert runner.execute("both").output == 1
    assert calls == ["slow"]


@pytest.mark.parametrize("order", ["wait first", "step first", "started before"])
def test_t5_step_concurrent_with_a_sleep_runs_only_once(runner, order):
    calls = []

    async def slow():
        calls.append("begun")
        await asyncio.sleep(0.05)
        calls.append("ended")
        return len(calls)

    @cloaca.workflow
    async def beside_a_step(handle):
        await handle.step("load", calls.clear)
        if order == "started before":
            step = asyncio.ensure_future(handle.step("slow", slow))
            await handle.sleep("nap", 0.2)
            return await step
        both = [handle.sleep("nap", 0.2), handle.step("slow", slow)]
        if order == "step first":
            both.reverse()
        return next(value for value in await asyncio.gather(*both) if value is not None)

    result = runner.execute("beside_a_step").raise_for_status()
    assert calls == ["begun", "ended"]
    assert result.output == 2


@pytest.mark.parametrize("gathers", [False, True])
def test_t5_step_whose_function_sleeps_is_parked_and_runs_again(runner, gathers):
    calls = []

    @cloaca.workflow
    async def nested(handle):
        async def outer(name):
            calls.append(name)
            await handle.sleep(f"nap {name}", 0.05)
            return name

        if gathers:
            steps = [handle.step(name, outer, name) for name in ("a", "b")]
            return await asyncio.gather(*steps)
        return [await handle.step("a", outer, "a")]

    result = runner.execute("nested").raise_for_status()
    assert result.output == (["a", "b"] if gathers else ["a"])
    assert set(calls) == set(result.output)


@pytest.mark.parametrize("then", ["returns", "goes on"])
def test_t5_function_can_handle_a_failed_step_gathered_with_a_sleep(then):
    def fail():
        raise ValueError("beside")

    @cloaca.workflow(retry_attempts=1)
    async def handles(handle):
        try:
            await asyncio.gather(handle.step("fails", fail), handle.sleep("long", "1h"))
        except ValueError:
            return "saved" if then == "returns" else await handle.step("next", lambda: "saved")

    with VirtualRunner() as runner:
        handle = runner.submit("handles")
        runner.advance(1)
        assert handle.status() == "Completed"
        assert handle.result().output == "saved"


def test_t5_cancelled_wait_does_not_end_other_waits(runner):
    runs = []

    @cloaca.workflow
    async def impatient(handle):
        runs.append(1)

        async def slow():
            await asyncio.sleep(0.3)

        step = asyncio.ensure_future(handle.step("slow", slow))
        if len(runs) == 1:
            cancelled = asyncio.ensure_future(handle.wait("never", cloaca.signal("never")))
        other = asyncio.ensure_future(handle.wait("message", cloaca.signal("message")))
        if len(runs) == 1:
            await asyncio.sleep(0.05)
            cancelled.cancel()
        await step
        return await other

    handle = runner.submit("impatient")
    while not runner.waits(execution_id=handle.id).items:
        time.sleep(0.01)
    assert handle.status() == "Running"
    runner.send("message", "hello", to=handle.id)
    assert handle.result(timeout=30).output == "hello"


def test_t5_sleep_inside_a_task_group_parks_the_task():
    @cloaca.workflow
    async def grouped(handle):
        async with asyncio.TaskGroup() as group:
            group.create_task(handle.sleep("hour", HOUR))
        return 1

    with VirtualRunner() as runner:
        assert runner.execute("grouped").output == 1


def test_t5_zero_sleep_returns_and_invalid_durations_are_refused():
    def task(context, handle):
        handle.sleep("none", 0)

    run_task(task)
    for wrong in ("soon", -1, "-1s", float("inf"), None):

        def sleeps(context, handle, wrong=wrong):
            handle.sleep("a", wrong)

        with pytest.raises(cloaca.ConfigurationError, match="duration"):
            run_task(sleeps)

    def waits(context, handle):
        handle.wait("a", "tomorrow")

    with pytest.raises(cloaca.TaskValidationError, match="'a' of task"):
        run_task(waits)


def test_t5_crash_around_a_sleep_changes_nothing():
    @cloaca.workflow
    def sleeper(handle):
        handle.step("a", lambda: 1)
        handle.sleep("ten seconds", "10s")
        return handle.step("b", lambda: 2)

    report = crash_everywhere("sleeper")
    assert len(report.points) >= 8


def test_t5_crash_around_a_wait_that_ends_at_once_changes_nothing():
    @cloaca.workflow
    def late(handle):
        handle.step("a", lambda: 1)
        handle.wait("past", cloaca.until(datetime(2026, 1, 1, tzinfo=UTC)))
        return handle.step("b", lambda: 2)

    report = crash_everywhere("late")
    assert len(report.points) >= 6


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_t5_wait_in_a_paused_execution_can_return_at_once(runner, kind):
    """A running function continues while its execution is paused."""
    started, paused = threading.Event(), threading.Event()

    def begin():
        started.set()
        assert paused.wait(60)

    if kind == "sync":

        @cloaca.workflow
        def pausing(handle):
            begin()
            return handle.wait("word", cloaca.signal("pausing", key="k"))
    else:

        @cloaca.workflow
        async def pausing(handle):
            await asyncio.to_thread(begin)
            return await handle.wait("word", cloaca.signal("pausing", key="k"))

    handle = runner.submit("pausing")
    assert started.wait(60)
    runner.send("pausing", "one", key="k")
    handle.pause()
    paused.set()
    while "signalled" not in {event.type for event in handle.events()}:
        time.sleep(0.01)
    # The execution may have completed before `resume` is called.
    with contextlib.suppress(cloaca.WorkflowError):
        handle.resume()
    assert handle.result(timeout=60).output == "one"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_t5_wait_returns_the_data_of_its_signal(runner, kind):
    if kind == "sync":

        @cloaca.workflow
        def approval(order: str, handle):
            return handle.wait("answer", cloaca.signal("approve", key=order), timeout="1h")
    else:

        @cloaca.workflow
        async def approval(order: str, handle):
            return await handle.wait("answer", cloaca.signal("approve", key=order), timeout="1h")

    handles = [runner.submit("approval", {"order": name}) for name in ("a", "b")]
    for handle, name in zip(handles, "ab", strict=True):
        runner.send("approve", {"of": name}, key=name)
        assert handle.result(timeout=60).output == {"of": name}
        assert handle.result().tasks["approval"].attempts == 1


def test_t5_key_of_a_wait_in_code_can_be_empty(runner):
    @cloaca.workflow
    def unnamed(handle):
        return handle.wait("answer", cloaca.signal("approve", key=""))

    handle = runner.submit("unnamed")
    wait_until(lambda: runner.waits().items)
    runner.send("approve", 1)
    runner.send("approve", 2, key="")
    assert handle.result(timeout=60).output == 2


@pytest.mark.parametrize(
    ("signal", "message"),
    [
        (cloaca.signal("paid", key="a\0b"), "cannot be the key of signal 'paid'"),
        (cloaca.signal("paid", key="x" * 1025), "a key has at most 1024 bytes and no NUL"),
        (cloaca.signal("paid", key="\u00e9" * 600), "a key has at most 1024 bytes and no NUL"),
        (cloaca.signal("paid", key="\ud800"), "cannot be the key of signal 'paid'"),
        (cloaca.any_of(cloaca.delay(9), cloaca.signal("paid", key="\0")), "cannot be the key"),
        (cloaca.signal("pa\nid"), "cannot be the name of a signal"),
        (cloaca.signal("x" * 256), "cannot be the name of a signal"),
    ],
)
def test_t5_wait_in_code_refuses_impossible_keys_and_names(runner, signal, message):
    @cloaca.workflow(retry_attempts=1)
    def waiting(handle):
        return handle.wait("answer", signal)

    result = runner.submit("waiting").result(timeout=60)
    assert result.error.type == "TaskValidationError"
    assert message in result.error.message
    assert result.error.message.startswith("'answer' of task 'waiting': ")
    assert "path into the context" not in result.error.message


def test_t5_longest_key_of_a_wait_in_code_is_received(runner):
    @cloaca.workflow
    def waiting(handle):
        return handle.wait("answer", cloaca.signal("longest", key="x" * 1024))

    handle = runner.submit("waiting")
    runner.send("longest", 1, key="x" * 1024)
    assert handle.result(timeout=60).output == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_t5_wait_returns_at_once_if_its_condition_holds(runner, kind):
    started, sent, starts = threading.Event(), threading.Event(), []
    past = cloaca.until(datetime(2026, 1, 1, tzinfo=UTC))
    both = cloaca.any_of(cloaca.signal("never", key="k"), cloaca.signal("word", key="k"))

    def begin():
        starts.append(1)
        started.set()
        assert sent.wait(60)

    if kind == "sync":

        @cloaca.workflow
        def hasty(handle):
            begin()
            words = [handle.wait(f"word-{n}", cloaca.signal("word", key="k")) for n in range(2)]
            handle.wait("past", past)
            return [*words, handle.wait("both", both), handle.step("last", len, "abc")]
    else:

        @cloaca.workflow
        async def hasty(handle):
            await asyncio.to_thread(begin)
            words = [
                await handle.wait(f"word-{n}", cloaca.signal("word", key="k")) for n in range(2)
            ]
            await handle.wait("past", past)
            return [*words, await handle.wait("both", both), await handle.step("last", len, "abc")]

    handle = runner.submit("hasty")
    assert started.wait(60)
    for word in ("one", "two", "three"):
        runner.send("word", word, key="k")
    sent.set()
    assert handle.result(timeout=60).output == ["one", "two", {"word": "three"}, 3]
    assert len(starts) == 1
    taken = [event for event in handle.events() if event.type == "signalled"]
    assert len(taken) == 3
    assert "waiting" not in {event.type for event in handle.events()}


def test_t5_received_signal_stays_with_its_wait(runner):
    """A retry receives the recorded signal again. Another task's wait receives the next signal."""
    sent, attempts, started = threading.Event(), [], threading.Event()

    with cloaca.WorkflowBuilder("taken_at_once", output="second"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        def first(handle: cloaca.TaskHandle) -> str:
            attempts.append(handle.attempt)
            started.set()
            assert sent.wait(60)
            word = handle.wait("word", cloaca.signal("item", key="k"))
            if handle.attempt == 1:
                raise ValueError("once")
            return word

        @cloaca.task
        def second(first: str, handle: cloaca.TaskHandle) -> list[str]:
            return [first, handle.wait("word", cloaca.signal("item", key="k"))]

    handle = runner.submit("taken_at_once")
    assert started.wait(60)
    for word in ("one", "two"):
        runner.send("item", word, key="k")
    sent.set()
    assert handle.result(timeout=60).output == ["one", "two"]
    assert attempts == [1, 2]


def test_t5_successive_waits_receive_signals_of_one_name_in_order(runner):
    @cloaca.workflow
    def chat(handle):
        timeouts = [None, math.inf, "1h"]
        message = cloaca.signal("message")
        return [handle.wait("message", message, timeout=timeout) for timeout in timeouts]

    handle = runner.submit("chat")
    for number in range(3):
        runner.send("message", number, to=handle.id)
    assert handle.result(timeout=60).output == [0, 1, 2]


def test_t5_wait_ends_with_the_first_of_several_conditions(runner):
    @cloaca.workflow
    def first(handle):
        condition = cloaca.any_of(cloaca.signal("go", key="g"), cloaca.delay("1h"))
        return handle.wait("first", condition)

    handle = runner.submit("first")
    runner.send("go", 7, key="g")
    assert handle.result(timeout=60).output == {"go": 7}


def test_t5_data_of_a_wait_is_decoded_by_type(runner):
    @cloaca.workflow
    def typed(handle):
        return list(handle.wait("pair", cloaca.signal("pair"), type=tuple[int, int]))

    handle = runner.submit("typed")
    runner.send("pair", [1, 2], to=handle.id)
    assert handle.result(timeout=60).output == [1, 2]


@pytest.mark.parametrize("call", ["wait", "run"])
def test_j9_wrong_value_of_a_wait_or_child_is_not_retried(runner, call):
    with cloaca.WorkflowBuilder("word", output="text"):

        @cloaca.task
        def text() -> str:
            return "seven"

    @cloaca.workflow(retry_attempts=3, retry_delay_ms=1)
    def number(handle):
        if call == "wait":
            return handle.wait("n", cloaca.signal("n"), type=int)
        return handle.run("n", "word", type=int)

    handle = runner.submit("number")
    runner.send("n", "seven", to=handle.id)
    result = handle.result(timeout=60)
    assert result.tasks["number"].attempts == 1
    assert result.error.type == "TaskInputError"
    assert f"the value of {call} 'n' does not match its type: " in result.error_message


def test_b1_recorded_steps_keep_all_digits_in_events(runner):
    @cloaca.workflow
    def large(handle):
        handle.step("number", lambda: 2**70)
        return handle.wait("signal", cloaca.signal("digits"))

    handle = runner.submit("large")
    runner.send("digits", 2**80, to=handle.id)
    assert handle.result(timeout=60).output == 2**80
    data = [event.data for event in handle.events() if event.type == "step_recorded"]
    assert data[0]["value"] == 2**70
    assert data[1]["value"] == {"value": 2**80}


def test_e7_step_of_a_wait_belongs_to_the_attempt_that_waited(runner):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        def naps(context, handle):
            handle.step("before", lambda: 1)
            if handle.attempt == 1:
                raise ValueError("once")
            handle.sleep("nap", 0.05)
            handle.step("after", lambda: 2)

    handle = runner.submit("w")
    assert handle.result(timeout=60).status == "Completed"
    steps = [event for event in handle.events() if event.type == "step_recorded"]
    attempts = [(event.data["key"], event.attempt) for event in steps]
    assert attempts == [("before", 1), ("nap", 2), ("after", 2)]


def test_t5_numbers_of_a_wait_keep_their_digits(runner):
    digits = "12345678901234567.89"

    @cloaca.workflow
    def priced(handle):
        price = handle.wait("price", cloaca.signal("price"), type=Decimal)
        both = cloaca.any_of(cloaca.signal("prices"), cloaca.delay("1h"))
        prices = handle.wait("prices", both, type=dict[str, list[Decimal]])
        return [str(price), *map(str, prices["prices"])]

    handle = runner.submit("priced")
    # Sends the JSON text directly, because a Python float has too few digits.
    runner._core.send("price", digits, None, handle.id)
    runner._core.send("prices", f"[{digits}, 1.10]", None, handle.id)
    assert handle.result(timeout=60).output == [digits, digits, "1.10"]


def test_t5_numbers_of_a_child_keep_their_digits(runner):
    digits = "12345678901234567.89"

    with cloaca.WorkflowBuilder("quote", output="price"):
        cloaca.wait("price", wait_for=cloaca.signal("price", since="ever"))

    @cloaca.workflow
    def buys(handle):
        one = handle.run("one", "quote", type=Decimal)
        two = handle.run_many("two", "quote", [{}, {}], type=Decimal)
        return [str(price) for price in [one, *two]]

    handle = runner.submit("buys")
    runner._core.send("price", digits)
    assert handle.result(timeout=60).output == [digits] * 3


CALLS = ("step", "sleep", "wait", "run", "run_many")


@pytest.mark.parametrize("made", CALLS)
@pytest.mark.parametrize("recorded", CALLS)
def test_t5_recorded_key_accepts_only_the_same_kind_of_call(runner, recorded, made):
    calls = {
        "step": lambda handle: handle.step("key", dict),
        "sleep": lambda handle: handle.sleep("key", "1ms"),
        "wait": lambda handle: handle.wait("key", cloaca.delay("1ms")),
        "run": lambda handle: handle.run("key", "nothing"),
        "run_many": lambda handle: handle.run_many("key", "nothing", [None]),
    }

    with cloaca.WorkflowBuilder("nothing"):

        @cloaca.task
        def idle(context): ...

    @cloaca.workflow(retry_attempts=3, retry_delay_ms=1)
    def changed(handle):
        # The second attempt makes another call, as if a new deployment had changed the code.
        calls[recorded if handle.attempt == 1 else made](handle)
        if handle.attempt == 1:
            raise ValueError("a deployment")

    result = runner.submit("changed").result(timeout=60)
    assert result.tasks["changed"].attempts == 2
    if recorded == made:
        assert result.status == "Completed"
        return
    assert result.error.type.endswith("TaskValidationError")
    assert (
        f"recorded the key 'key' with handle.{recorded}, and the code now calls handle.{made}"
        in result.error.message
    )
    assert "from_step='key'" in result.error.message


def test_t6_recorded_timeout_stays_until_from_step_deletes_it(runner):
    broken = [True]

    @cloaca.workflow(retry_attempts=1)
    def late(handle):
        try:
            got = handle.wait("answer", cloaca.signal("answer"), timeout="20ms")
        except cloaca.WaitTimeoutError:
            got = "nothing"
        if broken[0]:
            raise ValueError("broken")
        return got

    handle = runner.submit("late")
    assert handle.result(timeout=60).status == "Failed"
    runner.send("answer", "late", to=handle.id)
    broken[0] = False
    handle.retry()
    assert handle.result(timeout=60).output == "nothing"
    handle.retry(from_step="answer")
    assert handle.result(timeout=60).output == "late"
