"""Kills a runner at every transaction of a workflow, and compares the results."""

from __future__ import annotations

import threading
from collections import Counter

from cloaca import _core
from cloaca._testing.runner import VirtualRunner
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
_WAITS = ("signal", "approval", "timer")
_DECISION = {"approved", "data", "by", "at", "reason"}
_WAIT_ENDS = ("decided", "wait_timed_out")
# Maximum number of transactions of a workflow; a workflow with more probably does not end.
_MOST_POINTS = 10_000


class CrashReport:
    """The findings of `crash_everywhere`. Since 1.0."""

    def __init__(self) -> None:
        #: The points at which the runner was killed, in words.
        self.points: list[str] = []
        #: The points after which a task ran more than once, by task.
        self.ran_twice: dict[str, list[str]] = {}

    def __str__(self) -> str:
        """The findings as text."""
        lines = [f"killed at {len(self.points)} points, the end was always the same"]
        for task, points in self.ran_twice.items():
            lines.append(f"  '{task}' ran twice after a crash {', '.join(points)}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """The numbers."""
        return f"<CrashReport points={len(self.points)} ran_twice={sorted(self.ran_twice)}>"


class _End:
    """The outcome of one run of an execution."""

    def __init__(self) -> None:
        self.crashed = False
        self.runs: Counter[str] = Counter()
        self.views: dict[str, dict[str, Any]] = {}
        self.result: WorkflowResult | None = None
        self.observed: Any = None
        # What is wrong with the waits and steps that are stored at the end, in words.
        self.left_over: list[str] = []

    def states(self) -> dict[str, str]:
        assert self.result is not None
        return {id: str(task.status) for id, task in self.result.tasks.items()}


class _Watch:
    """Counts the runs of each task, and records its writes to the context."""

    def __init__(self, end: _End) -> None:
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
    """Run a workflow once per transaction, kill the runner there, restart, and compare the results.

    Each run has its own in-memory database and takes no real time: sleeps, delays and the
    lease of the killed runner pass on a virtual clock. A runner is killed once before a transaction
    is applied, and once after it, before the runner receives the answer. At the end no wait of the
    execution may be open, and no step, decision or timeout recorded twice.

    Args:
        workflow: The workflow.
        context: The initial context.
        setup: Called before each run, to reset everything that tasks change outside of the context.
        observe: Called after each run; its return value must be the same after every crash.

    Returns:
        The points at which the runner was killed, and the tasks that ran twice.

    Raises:
        AssertionError: The results differ. The message names the point and the task that is not
            idempotent.
        WorkflowNotFoundError: There is no such workflow.

    Example:
        >>> report = crash_everywhere("etl", {"day": "2026-01-01"})
        >>> assert "charge" not in report.ran_twice

    Since 1.0.
    """
    expected = _live(workflow, context, None, False, setup, observe)
    report = CrashReport()
    for number in range(1, _MOST_POINTS):
        for applied in (False, True):
            end = _live(workflow, context, number, applied, setup, observe)
            if not end.crashed:
                return report
            moment = "after" if applied else "before"
            point = f"{moment} transaction {number}"
            report.points.append(point)
            twice = [id for id in end.runs if end.runs[id] > expected.runs[id]]
            for id in twice:
                report.ran_twice.setdefault(id, []).append(point)
            _compare(expected, end, point, twice)
    raise AssertionError(f"the workflow has more than {_MOST_POINTS} transactions")


def _live(
    workflow: str | Workflow,
    context: Context | Mapping[str, Any] | None,
    crash_at: int | None,
    applied: bool,
    setup: Callable[[], object] | None,
    observe: Callable[[], object] | None,
) -> _End:
    if setup is not None:
        setup()
    end = _End()
    bench = _core.Bench()
    with _Watch(end):
        with VirtualRunner(
            _bench=bench, _crash_at=crash_at, _applied=applied, _alone=False
        ) as runner:
            end.result = _until_crash(runner, workflow, context)
            end.crashed = runner._bench_runner.crashed
            if end.result is not None and not end.crashed:
                end.left_over = _left_over(runner, end.result.execution_id)
        if end.crashed:
            with VirtualRunner(_bench=bench, _alone=False) as runner:
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
    while not runner._bench_runner.crashed:
        try:
            return handle.result(timeout=1)
        except TimeoutError:
            continue
    return None


def _left_over(runner: VirtualRunner, execution_id: str) -> list[str]:
    """Returns the waits that are still open at the end, and what is recorded twice."""
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
            found.append(f"{count} waits of task '{task}' ended by {type}, and {begun[task]} began")
    return found


def _context(result: WorkflowResult) -> dict[str, Any]:
    """The final context without the times of decisions, which differ from run to run."""
    context = result.final_context.to_dict()
    for key, value in context.items():
        if isinstance(value, dict) and value.keys() == _DECISION:
            context[key] = {**value, "at": None}
    return context


def _compare(expected: _End, end: _End, point: str, twice: list[str]) -> None:
    assert expected.result is not None
    assert end.result is not None
    differences = []
    if end.result.status != expected.result.status:
        differences.append(f"it is {end.result.status} instead of {expected.result.status}")
    before, after = _context(expected.result), _context(end.result)
    for key in {**before, **after}:
        if before.get(key, _ABSENT) != after.get(key, _ABSENT):
            old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
            differences.append(f"context[{key!r}] is {new!r} instead of {old!r}")
    if end.observed != expected.observed:
        differences.append(f"observe() gives {end.observed!r} instead of {expected.observed!r}")
    differences += end.left_over
    for id, state in expected.states().items():
        if end.states()[id] != state:
            differences.append(f"task '{id}' is {end.states()[id]} instead of {state}")
    if not differences:
        return
    # The first task, in the order of the workflow, whose writes differ is the cause.
    order = [id for id in expected.result.tasks if id in expected.views]
    order.sort(key=list(expected.views).index)
    others = [id for id in order if end.views.get(id) != expected.views[id]]
    suspects = [id for id in others if id in twice][:1] or twice or others[:1]
    names = ", ".join(f"'{id}' (ran {end.runs[id]} times)" for id in suspects)
    raise AssertionError(
        f"after a crash {point} the end differs: {'; '.join(differences)}. "
        f"Not idempotent: {names or 'nothing that ran twice; does setup put everything back?'}"
    )


class _Absent:
    def __repr__(self) -> str:
        return "absent"


_ABSENT = _Absent()
