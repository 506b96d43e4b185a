"""A test host for `cloaca._core.Runner`. Its task functions take a `_core.Work`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from cloaca import _core

Event = TypeVar("Event", bound=object)
COMPLETED = _core.Outcome.completed()
SETTINGS: dict[str, Any] = {
    "max_concurrent_tasks": 4,
    "max_concurrent_async_tasks": 100,
    "poll_interval_us": 100_000,
    "task_timeout_us": None,
    "workflow_timeout_us": None,
    "enable_recovery": True,
    "heartbeat_interval_us": 5_000_000,
    "lease_ttl_us": 15_000_000,
    "stall_threshold_us": None,
    "max_rescues": 3,
    "max_context_bytes": 1 << 24,
    "shutdown_timeout_us": 30_000_000,
    "db_timeout_us": 30_000_000,
    "db_pool_size": 2,
    "retention_us": None,
    "signal_retention_us": None,
    "auto_migrate": True,
    "enable_cron_scheduling": True,
    "cron_max_catchup_executions": 100,
    "max_map_items": 100_000,
}


class CoreHost:
    """Runs the worker threads and the supervisor thread of a runner, as the package does."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.runner = _core.Runner(url, json.dumps(SETTINGS | settings))
        self.functions: dict[str, Callable[[_core.Work], Any]] = {}
        self.events: list[object] = []
        self.changed = threading.Condition()
        self.workers: list[threading.Thread] = []
        self.supervisor = threading.Thread(target=self._supervise, daemon=True)
        self.supervisor.start()

    def define(
        self,
        name: str,
        *tasks: dict[str, Any],
        executor: str = "threads",
        has_callbacks: bool = True,
    ) -> None:
        workflow = _core.Workflow.build(json.dumps({"name": name, "tasks": list(tasks)}))
        handler = _core.TaskHandler(executor, 7, has_callbacks, has_callbacks)
        handlers = dict.fromkeys(workflow.tasks, handler)
        self.runner.register(workflow, handlers)

    def execute(self, name: str, context: _core.Context | None = None) -> _core.Execution:
        return self.runner.execute(request(name, context))

    def submit(self, name: str) -> str:
        return self.runner.submit([request(name)])[0].execution_id

    def wait_for(self, kind: type[Event]) -> Event:
        with self.changed:
            assert self.changed.wait_for(lambda: self.events_of_kind(kind), 20), self.events
            return self.events_of_kind(kind)[0]

    def events_of_kind(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def close(self, grace_us: int = 5_000_000) -> None:
        self.runner.stop(grace_us)
        for thread in [self.supervisor, *self.workers]:
            thread.join(10)
            assert not thread.is_alive()

    def _supervise(self) -> None:
        while events := self.runner.supervise():
            with self.changed:
                self.events += events
                self.changed.notify_all()
            for event in events:
                if isinstance(event, _core.WorkerWanted):
                    number = len(self.workers) + 1
                    self.workers.append(
                        threading.Thread(target=self._work, args=(number,), daemon=True)
                    )
                    self.workers[-1].start()

    def _work(self, number: int) -> None:
        work = self.runner.next_work(number)
        while work is not None:
            function = self.functions.get("callback" if work.callback else work.task_id)
            outcome = function(work) if function is not None else None
            if work.callback:
                work.end_callback()
            work = self.runner.finish_and_next(number, work, outcome or COMPLETED)


def request(
    name: str, context: _core.Context | None = None, key: str | None = None, **options: Any
) -> _core.SubmitRequest:
    return _core.SubmitRequest(name, context, key, **options)


def once(id: str, *dependencies: str, **options: Any) -> dict[str, Any]:
    """Returns the definition of a task that has a single attempt."""
    return {
        "id": id,
        "dependencies": dependencies,
        "retry": {
            "max_attempts": 1,
            "backoff": {"strategy": "fixed"},
            "initial_delay": 0,
            "max_delay": 0,
            "jitter": False,
            "condition": "all",
        },
        **options,
    }
