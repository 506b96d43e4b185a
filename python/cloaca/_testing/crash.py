"""Kills a runner at every transaction of a workflow, and compares the results."""

from __future__ import annotations

import threading
from collections import Counter

from cloaca import _core
from cloaca._testing.runner import Crash, Jumps, VirtualRunner, rescue
from cloaca._values.exceptions import CloacaException
from cloaca._workers import event_loop, pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from cloaca._core import Context, Outcome, Work
    from cloaca._executions.result import WorkflowResult
    from cloaca._workers.attempt_scope import AttemptScope
    from cloaca._workflows.workflow import Workflow

_KEY = "crash_everywhere"
# The kinds of waits, the keys of a decision, and the types of events that record the end of a wait.
_WAITS = ("signal", "approval", "timer")
_DECISION = {"approved", "data", "by", "at", "reason"}
_WAIT_ENDS = ("decided", "wait_timed_out")
# Maximum number of transactions of a workflow. A workflow with more transactions may never end.
_MAX_TRANSACTIONS = 10_000


class CrashReport:
    """The findings of `crash_everywhere`.

    Attributes:
        points: Descriptions of the points at which the runner was killed.
        ran_twice: For each task that ran again because of a crash: the points of these crashes.

    Example:
        >>> report = crash_everywhere("etl")
        >>> report.ran_twice
        {'load': ['after transaction 3']}

    Since 1.0.
    """

    def __init__(self) -> None:
        self.points: list[str] = []
        self.ran_twice: dict[str, list[str]] = {}

    def __str__(self) -> str:
        """Return the findings as text."""
        lines = [f"killed at {len(self.points)} points; the result was always the same"]
        for task, points in self.ran_twice.items():
            lines.append(f"  '{task}' ran again after a crash: {', '.join(points)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Return the number of points, and the tasks that ran again."""
        return f"<CrashReport points={len(self.points)} ran_twice={sorted(self.ran_twice)}>"


class _RunOutcome:
    """The outcome of one run of the workflow."""

    def __init__(self) -> None:
        self.crashed = False
        self.runs: Counter[str] = Counter()
        self.views: dict[str, dict[str, Any]] = {}
        self.result: WorkflowResult | None = None
        self.observed: Any = None
        # Messages about open waits, and about steps, decisions and timeouts recorded twice.
        self.left_over: list[str] = []

    def states(self) -> dict[str, str]:
        assert self.result is not None
        return {id: str(task.status) for id, task in self.result.tasks.items()}


class _RunRecorder:
    """Counts the runs of each task, and records the task's context after each run."""

    def __init__(self, end: _RunOutcome) -> None:
        self._end = end
        self._lock = threading.Lock()
        self._attempt, self._outcome_of = pool.attempt, event_loop._outcome_of

    def __enter__(self) -> None:
        pool.attempt = self._run
        event_loop._outcome_of = self._run_async

    def __exit__(self, *_: object) -> None:
        pool.attempt = self._attempt
        event_loop._outcome_of = self._outcome_of

    def _run(self, work: Work, scope: AttemptScope) -> Outcome:
        self._begin(work)
        outcome = self._attempt(work, scope)
        self._note(work)
        return outcome

    async def _run_async(self, work: Work, scope: AttemptScope) -> Outcome:
        self._begin(work)
        outcome = await self._outcome_of(work, scope)
        self._note(work)
        return outcome

    def _begin(self, work: Work) -> None:
        with self._lock:
            self._end.runs[work.task_id] += 1

    def _note(self, work: Work) -> None:
        with self._lock:
            self._end.views[work.task_id] = work.context.to_dict()


def crash_everywhere(
    workflow: str | Workflow,
    context: Context | Mapping[str, Any] | None = None,
    *,
    setup: Callable[[], object] | None = None,
    observe: Callable[[], object] | None = None,
) -> CrashReport:
    """Run a workflow, kill and restart its runner at every transaction, and compare the results.

    The first run of the workflow has no crash and gives the expected results. Each further run has
    one crash: either before a transaction is applied, or after it is applied but before the runner
    receives the answer. Each run has its own in-memory database and takes no real time: sleeps,
    delays and the lease of the killed runner use a virtual clock. At the end of a run, no wait of
    the execution may be open, and no step, decision or timeout may be recorded twice.

    Args:
        workflow: The workflow.
        context: The initial context.
        setup: A function to call before each run. It resets everything that tasks change outside of
            the context.
        observe: A function to call after each run. Its return value must be the same after every
            run.

    Returns:
        The points at which the runner was killed, and the tasks that ran again after a crash.

    Raises:
        AssertionError: The results differ, or the workflow has too many transactions. If the
            results differ, the message names the point of the crash, and the task that is probably
            not idempotent.
        WorkflowNotFoundError: There is no such workflow.

    Example:
        >>> report = crash_everywhere("etl", {"day": "2026-01-01"})
        >>> assert "charge" not in report.ran_twice

    Since 1.0.
    """
    jumps = Jumps()
    expected = _run_once(workflow, context, None, jumps, setup, observe)
    report = CrashReport()
    for number in range(1, _MAX_TRANSACTIONS):
        for applied in (False, True):
            crash = Crash(number, applied, jumps)
            end = _run_once(workflow, context, crash, None, setup, observe)
            if not end.crashed:
                return report
            moment = "after" if applied else "before"
            point = f"{moment} transaction {number}"
            report.points.append(point)
            twice = [id for id in end.runs if end.runs[id] > expected.runs[id]]
            for id in twice:
                report.ran_twice.setdefault(id, []).append(point)
            _compare(expected, end, point, twice)
    raise AssertionError(f"the workflow has more than {_MAX_TRANSACTIONS} transactions")


def _run_once(
    workflow: str | Workflow,
    context: Context | Mapping[str, Any] | None,
    crash: Crash | None,
    jumps: Jumps | None,
    setup: Callable[[], object] | None,
    observe: Callable[[], object] | None,
) -> _RunOutcome:
    """Runs the workflow on a new database, with at most one crash.

    Args:
        workflow: The workflow.
        context: The initial context.
        crash: The planned crash; `None` for a run without a crash.
        jumps: The record to which the jumps of the clock are added.
        setup: See `crash_everywhere`.
        observe: See `crash_everywhere`.
    """
    if setup is not None:
        setup()
    end = _RunOutcome()
    bench = _core.Bench()
    with _RunRecorder(end):
        # Polls of triggers would add an endless series of transactions.
        with VirtualRunner(_bench=bench, _crash=crash, _polls_triggers=False) as runner:
            if jumps is not None:
                jumps.start_us = bench.now_us
                runner._pacer.jumps = jumps
            end.result = _until_crash(runner, workflow, context)
            try:
                if end.result is not None:
                    end.left_over = _left_over(runner, end.result.execution_id)
            except CloacaException:
                # The runner may be killed at a transaction after the end of the execution.
                if not runner._bench_runner.crashed:
                    raise
            end.crashed = runner._bench_runner.crashed
        if end.crashed:
            rescue(bench)
            with VirtualRunner(_bench=bench, _polls_triggers=False) as runner:
                end.result = runner.submit(workflow, context, key=_KEY).result()
                end.left_over = _left_over(runner, end.result.execution_id)
    if observe is not None:
        end.observed = observe()
    return end


def _until_crash(
    runner: VirtualRunner, workflow: str | Workflow, context: Any
) -> WorkflowResult | None:
    try:
        handle = runner.submit(workflow, context, key=_KEY)
    except CloacaException:
        if runner._bench_runner.crashed:
            return None
        raise
    return runner._result_or_crash(handle.id)


def _left_over(runner: VirtualRunner, execution_id: str) -> list[str]:
    """Returns messages about open waits, and steps, decisions and timeouts recorded twice."""
    found = []
    for kind in _WAITS:
        for wait in runner.waits(kind=kind, execution_id=execution_id):
            found.append(f"the {kind} '{wait.name}' of task '{wait.task_id}' is still open")
    counts: Counter[tuple[str, str | None, str]] = Counter()
    begun: Counter[str | None] = Counter()
    for event in runner.events(execution_id):
        if event.type == "step_recorded":
            counts[event.type, event.task_id, event.data["key"]] += 1
        elif event.type == "waiting":
            begun[event.task_id] += 1
        elif event.type in _WAIT_ENDS:
            counts[event.type, event.task_id, ""] += 1
    for (type, task, key), count in counts.items():
        if type == "step_recorded" and count > 1:
            found.append(f"the step '{key}' of task '{task}' is recorded {count} times")
        if type != "step_recorded" and count > begun[task]:
            found.append(f"task '{task}' began {begun[task]} waits, but has {count} {type} events")
    return found


def _context(result: WorkflowResult) -> dict[str, Any]:
    """Returns the final context without the times of decisions, which differ from run to run."""
    context = result.final_context.to_dict()
    for key, value in context.items():
        if isinstance(value, dict) and value.keys() == _DECISION:
            context[key] = {**value, "at": None}
    return context


def _compare(expected: _RunOutcome, end: _RunOutcome, point: str, twice: list[str]) -> None:
    assert expected.result is not None
    assert end.result is not None
    differences = []
    if end.result.status != expected.result.status:
        differences.append(f"the status is {end.result.status} instead of {expected.result.status}")
    before, after = _context(expected.result), _context(end.result)
    for key in {**before, **after}:
        if before.get(key, _ABSENT) != after.get(key, _ABSENT):
            old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
            differences.append(f"context[{key!r}] is {new!r} instead of {old!r}")
    if end.observed != expected.observed:
        differences.append(f"observe() returns {end.observed!r} instead of {expected.observed!r}")
    differences += end.left_over
    for id, state in expected.states().items():
        if end.states()[id] != state:
            differences.append(f"task '{id}' is {end.states()[id]} instead of {state}")
    if not differences:
        return
    # The tasks whose contexts differ, in the order in which they ended in the run without a crash.
    # The first of these tasks that ran twice is the most likely cause.
    order = [id for id in expected.result.tasks if id in expected.views]
    order.sort(key=list(expected.views).index)
    others = [id for id in order if end.views.get(id) != expected.views[id]]
    suspects = [id for id in others if id in twice][:1] or twice or others[:1]
    names = ", ".join(f"'{id}' (ran {end.runs[id]} times)" for id in suspects)
    raise AssertionError(
        f"after a crash {point}, the outcome differs: {'; '.join(differences)}. "
        f"Not idempotent: {names or 'nothing that ran twice; does setup reset everything?'}"
    )


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()
