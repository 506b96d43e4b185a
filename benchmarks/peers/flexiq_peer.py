"""FlexiQ: workflows as DAGs of jobs; its worker is a thread of this process."""

from __future__ import annotations

import logging
import threading
from typing import Any, ClassVar

from flexiq import Queue
from flexiq.workflows import Workflow, WorkflowState
from protocol import PAYLOAD, WORKERS, Peer, main


class FlexiQ(Peer):
    settings: ClassVar = {
        "sqlite": "the only mode: WAL, no fsync at a commit",
        "postgres": "its default: the server's commit setting",
    }

    def __init__(self, url: str, workload: str) -> None:
        where = (
            {"db_path": url.removeprefix("sqlite:///")}
            if url.startswith("sqlite:")
            else {"backend": "postgres", "db_url": url}
        )
        # The fastest settings found: push for W1 on SQLite, polling every millisecond otherwise.
        dispatch = (
            {"push_dispatch": True}
            if workload == "W1" and "db_path" in where
            else {"scheduler_poll_interval_ms": 1}
        )
        logging.getLogger("flexiq").setLevel(logging.WARNING)
        queue = Queue(**where, **dispatch, workers=WORKERS)

        @queue.task()
        def nothing() -> None:
            pass

        @queue.task()
        def write() -> list[Any]:
            return [PAYLOAD]

        @queue.task()
        def hand_on(payload: list[Any]) -> list[Any]:
            return payload

        @queue.task()
        def read(payloads: list[Any]) -> None:
            assert len(payloads[0]) == len(PAYLOAD)

        @queue.task()
        def numbers(count: int) -> list[int]:
            return list(range(count))

        @queue.task()
        def item(number: int) -> int:
            return number

        @queue.task()
        def length(items: list[int]) -> int:
            return len(items)

        self.queue, self.nothing = queue, nothing
        self.parts = numbers, item, length
        self.single = Workflow("single").step("only", nothing)
        self.three = (
            Workflow("chain")
            .step("one", nothing)
            .step("two", nothing, after="one")
            .step("three", nothing, after="two")
        )
        # A step can pass a value to the next step only through a fan-out. This one has width one.
        self.payload = (
            Workflow("large")
            .step("one", write)
            .step("two", hand_on, after="one", fan_out="each")
            .step("three", read, after="two", fan_in="all")
        )
        middle = [f"middle{index}" for index in range(8)]
        self.ten = Workflow("fan").step("first", nothing)
        for name in middle:
            self.ten.step(name, nothing, after="first")
        self.ten.step("last", nothing, after=middle)
        threading.Thread(target=queue.run_worker, daemon=True).start()

    def at_once(self, workflow: Workflow, count: int) -> None:
        for run in [self.queue.submit_workflow(workflow) for _ in range(count)]:
            assert run.wait().state is WorkflowState.COMPLETED

    def chain(self) -> None:
        self.at_once(self.three, 1)

    def singles(self, count: int) -> None:
        self.at_once(self.single, count)

    def jobs(self, count: int) -> None:
        for job in self.queue.enqueue_many(self.nothing.name, [()] * count):
            job.result(timeout=300, poll_interval=0.001, max_poll_interval=0.005)

    def fans(self, count: int) -> None:
        self.at_once(self.ten, count)

    def large(self) -> None:
        self.at_once(self.payload, 1)

    def larges(self, count: int) -> None:
        self.at_once(self.payload, count)

    def mapped(self, count: int) -> None:
        numbers, item, length = self.parts
        workflow = (
            Workflow("mapped")
            .step("numbers", numbers, args=(count,))
            .step("item", item, after="numbers", fan_out="each")
            .step("length", length, after="item", fan_in="all")
        )
        # A fan-out of 100 or more elements often does not end; see README.md.
        run = self.queue.submit_workflow(workflow)
        assert run.wait(timeout=30).state is WorkflowState.COMPLETED

    def close(self) -> None:
        self.queue.close()


if __name__ == "__main__":
    main(FlexiQ)
