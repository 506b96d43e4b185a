"""For random API calls in random order, a runner behaves like a simple model."""

from __future__ import annotations

import asyncio

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

import cloaca
from cloaca import _core
from cloaca.testing import VirtualRunner

# Seconds that an execution of the kind `slow` takes.
SLEEP = 100
# Seconds between the two attempts of the kind `flaky`.
BACK_OFF = 50
# Seconds for which a runner keeps an ended execution. After this time, the runner deletes the
# execution within a minute.
RETENTION = 3600
KINDS = ["quick", "fails", "flaky", "slow"]
ENDED = {"Completed", "Failed", "Cancelled"}


def define(kind):
    with cloaca.WorkflowBuilder(f"model_{kind}"):
        if kind == "quick":

            @cloaca.task(id="work")
            def quick(context):
                context["done"] = True
        elif kind == "fails":

            @cloaca.task(id="work", retry_attempts=1)
            def fails(context):
                raise ValueError("always")
        elif kind == "flaky":

            @cloaca.task(
                id="work",
                retry_attempts=2,
                retry_backoff="fixed",
                retry_delay_ms=BACK_OFF * 1000,
                retry_jitter=False,
            )
            def flaky(context, handle):
                if handle.attempt % 2:
                    raise ValueError("at first")
        else:

            @cloaca.task(id="work")
            async def slow(context):
                await asyncio.sleep(SLEEP)


class Modelled:
    """An execution in the model, with its phase and the time at which the phase ends."""

    def __init__(self, kind, now, delay):
        self.kind = kind
        self.start_at = now + delay
        self.phase = "waiting"
        self.due = now + delay
        self.status = "Pending"
        self.paused_at = None
        self.ended_at = None
        self.tries = 0

    def end(self, status, now):
        self.status, self.phase, self.ended_at, self.paused_at = status, "ended", now, None

    def run(self, now):
        """Starts an attempt."""
        self.status = "Running"
        self.tries += 1
        if self.kind == "quick":
            self.end("Completed", now)
        elif self.kind == "fails":
            self.end("Failed", now)
        elif self.kind == "flaky" and self.tries % 2:
            self.phase, self.due = "backing off", now + BACK_OFF
        elif self.kind == "flaky":
            self.end("Completed", now)
        else:
            self.phase, self.due = "sleeping", now + SLEEP

    def pass_time(self, now):
        while self.phase != "ended" and self.due <= now:
            if self.phase == "sleeping":
                self.end("Completed", self.due)
            elif self.status == "Paused":
                return
            else:
                self.run(self.due)

    def pause(self, now):
        if self.status != "Paused":
            self.status, self.paused_at = "Paused", now

    def resume(self, now):
        if self.status != "Paused":
            return
        held, self.paused_at = now - self.paused_at, None
        self.status = "Running" if self.tries else "Pending"
        if self.phase == "backing off":
            self.due += held
        elif self.phase == "returned":
            self.due = now
        elif self.phase == "waiting":
            self.due = max(self.start_at, now)
        self.pass_time(now)

    def restart(self, now):
        """Applies a restart: the old runner returns its claims, and running tasks start again."""
        if self.phase == "sleeping":
            self.tries -= 1
            if self.status == "Paused":
                self.phase = "returned"
            else:
                self.run(now)

    def retry(self, now):
        self.tries += self.tries % 2
        self.ended_at = None
        self.run(now)


class Api(RuleBasedStateMachine):
    handles = Bundle("handles")

    def __init__(self):
        super().__init__()
        for kind in KINDS:
            define(kind)
        self.bench = _core.Bench()
        self.runner = self.start()
        self.now = 0
        self.model = {}
        self.keys = {}

    def start(self):
        config = cloaca.DefaultRunnerConfig(retention_days=RETENTION / 86_400)
        return VirtualRunner(config, _bench=self.bench)

    def teardown(self):
        self.runner.shutdown(timeout=0)

    @rule(target=handles, kind=st.sampled_from(KINDS), delay=st.sampled_from([0, 0, 30, 200]))
    def submit(self, kind, delay):
        id = self.runner.submit(f"model_{kind}", delay=delay).id
        self.model[id] = Modelled(kind, self.now, delay)
        self.model[id].pass_time(self.now)
        return id

    @rule(target=handles, kind=st.sampled_from(KINDS), key=st.sampled_from(["a", "b"]))
    def submit_with_key(self, kind, key):
        id = self.runner.submit(f"model_{kind}", key=key).id
        known = self.keys.get((kind, key))
        if known in self.model:
            assert id == known
        else:
            assert id not in self.model
            self.keys[kind, key] = id
            self.model[id] = Modelled(kind, self.now, 0)
            self.model[id].pass_time(self.now)
        return id

    @rule(kind=st.sampled_from(KINDS))
    def define_again(self, kind):
        define(kind)

    @rule(id=handles)
    def cancel(self, id):
        known = self.model.get(id)
        if known is None:
            with pytest.raises(cloaca.CloacaException):
                self.runner.cancel_execution(id)
            return
        assert self.runner.cancel_execution(id) is (known.status not in ENDED)
        if known.status not in ENDED:
            known.end("Cancelled", self.now)

    @rule(id=handles)
    def pause(self, id):
        known = self.model.get(id)
        if known is None or known.status in ENDED:
            with pytest.raises(cloaca.CloacaException):
                self.runner.pause_execution(id)
            return
        assert self.runner.pause_execution(id) == "Paused"
        known.pause(self.now)

    @rule(id=handles)
    def resume(self, id):
        known = self.model.get(id)
        if known is None or known.status in ENDED:
            with pytest.raises(cloaca.CloacaException):
                self.runner.resume_execution(id)
            return
        self.runner.resume_execution(id)
        known.resume(self.now)

    @rule(id=handles)
    def retry(self, id):
        known = self.model.get(id)
        if known is None or known.status != "Failed":
            with pytest.raises(cloaca.CloacaException):
                self.runner.retry_execution(id)
            return
        self.runner.retry_execution(id)
        known.retry(self.now)

    @rule(seconds=st.sampled_from([1, 29, 51, 99, 101, 300]))
    def advance(self, seconds):
        self.runner.advance(seconds)
        self.now += seconds
        for known in self.model.values():
            known.pass_time(self.now)

    @rule(target=handles, kind=st.sampled_from(KINDS))
    def prune(self, kind):
        # Submits an execution that is still open after the advance, so it is not deleted.
        id = self.submit(kind, 2 * RETENTION)
        self.advance(RETENTION + 61)
        listed = {item.execution_id for item in self.runner.list_executions(limit=1000)}
        assert self.ids_within(RETENTION) <= listed <= self.ids_within(RETENTION + 61)
        self.model = {id: known for id, known in self.model.items() if id in listed}
        return id

    def ids_within(self, seconds):
        """Returns the ids of executions that are open, or ended at most `seconds` seconds ago."""
        return {
            id
            for id, known in self.model.items()
            if known.ended_at is None or known.ended_at >= self.now - seconds
        }

    @rule()
    def restart(self):
        self.runner.shutdown(timeout=0)
        self.runner = self.start()
        for known in self.model.values():
            known.restart(self.now)

    @invariant()
    def runner_agrees_with_the_model(self):
        self.runner.advance(0)
        for id, known in list(self.model.items()):
            try:
                status = str(self.runner.get_execution_status(id))
            except cloaca.CloacaException:
                assert known.ended_at is not None
                assert known.ended_at <= self.now - RETENTION
                del self.model[id]
                continue
            assert status == known.status, (id, known.kind, known.phase)
        (listed, cursor) = ([], None)
        while True:
            page = self.runner.list_executions(limit=7, cursor=cursor)
            listed += [item.execution_id for item in page]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert sorted(listed, reverse=True) == listed
        assert set(listed) == set(self.model)


TestApi = Api.TestCase
TestApi.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
