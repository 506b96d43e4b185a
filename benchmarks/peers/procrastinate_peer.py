"""Procrastinate: bare jobs on PostgreSQL; each job defers (enqueues) the next one.

The worker runs in-process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar

import procrastinate
from procrastinate.jobs import Status
from protocol import PAYLOAD, WORKERS, Peer, main

FAN_IN = "jobs cannot wait for other jobs and have no results, so a fan-out cannot be joined"


class Procrastinate(Peer):
    cannot: ClassVar = {"W2-jobs": "W2 already uses bare jobs", "W3": FAN_IN, "W12": FAN_IN}
    databases: ClassVar = ("postgres",)
    settings: ClassVar = {"postgres": "the default: the server's commit setting"}

    def __init__(self, url: str, workload: str) -> None:
        self.app = app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=url, min_size=4, max_size=10)
        )
        #: For each chain, a future with the id of its last job, set when that job is deferred.
        self.ends: dict[int, asyncio.Future[int]] = {}
        self.done = 0

        @app.task(queue="peer")
        async def only() -> None:
            pass

        @app.task(queue="peer")
        async def one(number: int, write: bool) -> None:
            await two.defer_async(number=number, payload=PAYLOAD if write else None)

        @app.task(queue="peer")
        async def two(number: int, payload: Any) -> None:
            self.ends.pop(number).set_result(
                await three.defer_async(number=number, payload=payload)
            )

        @app.task(queue="peer")
        async def three(number: int, payload: Any) -> None:
            assert payload is None or len(payload) == len(PAYLOAD)

        self.only, self.one = only, one
        self.loop = asyncio.new_event_loop()
        self.run(self.start())

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    async def start(self) -> None:
        await self.app.open_async()
        await self.app.schema_manager.apply_schema_async()
        self.worker = asyncio.create_task(
            self.app.run_worker_async(concurrency=WORKERS, install_signal_handlers=False)
        )

    async def chains(self, count: int, *, write: bool) -> None:
        numbers = range(count)
        ends = [asyncio.get_running_loop().create_future() for _ in numbers]
        self.ends.update(zip(numbers, ends, strict=True))
        await self.one.batch_defer_async(*[{"number": n, "write": write} for n in numbers])
        manager = self.app.job_manager
        for end in ends:
            # Procrastinate has no call that waits for a job.
            while await manager.get_job_status_async(await end) is not Status.SUCCEEDED:
                await asyncio.sleep(0.001)
        self.done += 3 * count

    async def batch(self, count: int) -> None:
        await self.only.batch_defer_async(*[{}] * count)
        self.done += count
        while True:
            (queue,) = await self.app.job_manager.list_queues_async(queue="peer")
            if queue["succeeded"] >= self.done:
                return
            await asyncio.sleep(0.01)

    def chain(self) -> None:
        self.run(self.chains(1, write=False))

    def singles(self, count: int) -> None:
        self.run(self.batch(count))

    def large(self) -> None:
        self.run(self.chains(1, write=True))

    def larges(self, count: int) -> None:
        self.run(self.chains(count, write=True))


if __name__ == "__main__":
    main(Procrastinate)
