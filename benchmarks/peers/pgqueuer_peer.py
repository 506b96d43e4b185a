"""PgQueuer: bare jobs on PostgreSQL; each job enqueues the next one. The worker runs in-process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, ClassVar

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.core.completion import CompletionWatcher
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from protocol import PAYLOAD, Peer, main

FAN_IN = "jobs cannot wait for other jobs and have no results, so a fan-out cannot be joined"


class Pgqueuer(Peer):
    cannot: ClassVar = {"W2-jobs": "W2 already uses bare jobs", "W3": FAN_IN, "W12": FAN_IN}
    databases: ClassVar = ("postgres",)
    settings: ClassVar = {"postgres": "the default: logged tables, the server's commit setting"}

    def __init__(self, url: str, workload: str) -> None:
        #: For each chain, a future with the id of its last job, set when that job is enqueued.
        self.ends: dict[int, asyncio.Future[int]] = {}
        # PgQueuer's command line also uses uvloop.
        self.loop = uvloop.new_event_loop()
        self.run(self.start(url))

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    async def start(self, url: str) -> None:
        async def driver() -> AsyncpgDriver:
            return AsyncpgDriver(await asyncpg.connect(url))

        # Separate connections for the worker, its jobs, the submitter and the waiting caller.
        self.queries, jobs = Queries(await driver()), Queries(await driver())
        self.watching = await driver()
        await self.queries.install()
        worker = PgQueuer(await driver())

        @worker.entrypoint("only")
        async def only(job: Job) -> None:
            pass

        @worker.entrypoint("one")
        async def one(job: Job) -> None:
            message = json.loads(job.payload)
            if message["write"]:
                message["payload"] = PAYLOAD
            await jobs.enqueue("two", json.dumps(message).encode())

        @worker.entrypoint("two")
        async def two(job: Job) -> None:
            number = json.loads(job.payload)["number"]
            (end,) = await jobs.enqueue("three", job.payload)
            self.ends.pop(number).set_result(end)

        @worker.entrypoint("three")
        async def three(job: Job) -> None:
            message = json.loads(job.payload)
            assert not message["write"] or len(message["payload"]) == len(PAYLOAD)

        self.worker = asyncio.create_task(worker.run())

    def watcher(self, *, alone: bool) -> CompletionWatcher:
        """Returns a watcher that waits for completions. With `alone`, it does not batch them."""
        debounce = timedelta(milliseconds=0 if alone else 50)
        return CompletionWatcher(self.watching, queries=Queries(self.watching), debounce=debounce)

    async def chains(self, count: int, *, write: bool) -> None:
        ends = [asyncio.get_running_loop().create_future() for _ in range(count)]
        self.ends.update(enumerate(ends))
        messages = [json.dumps({"number": n, "write": write}).encode() for n in range(count)]
        async with self.watcher(alone=count == 1) as watcher:
            await self.queries.enqueue(["one"] * count, messages, [0] * count)
            waiting = [watcher.wait_for(await end) for end in ends]
            assert set(await asyncio.gather(*waiting)) == {"successful"}

    async def batch(self, count: int) -> None:
        async with self.watcher(alone=False) as watcher:
            jobs = await self.queries.enqueue(["only"] * count, [None] * count, [0] * count)
            waiting = [watcher.wait_for(job) for job in jobs]
            assert set(await asyncio.gather(*waiting)) == {"successful"}

    def chain(self) -> None:
        self.run(self.chains(1, write=False))

    def singles(self, count: int) -> None:
        self.run(self.batch(count))

    def large(self) -> None:
        self.run(self.chains(1, write=True))

    def larges(self, count: int) -> None:
        self.run(self.chains(count, write=True))


if __name__ == "__main__":
    main(Pgqueuer)
