"""DBOS: workflows made of steps, started in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from dbos import DBOS, DBOSConfig
from protocol import PAYLOAD, Peer, main


@DBOS.step()
def nothing() -> None:
    pass


@DBOS.step()
async def nothing_async() -> None:
    pass


@DBOS.step()
def write() -> list[Any]:
    return PAYLOAD


@DBOS.step()
def read(payload: list[Any]) -> None:
    assert len(payload) == len(PAYLOAD)


@DBOS.workflow()
def single() -> None:
    nothing()


@DBOS.workflow()
def chain() -> None:
    nothing()
    nothing()
    nothing()


@DBOS.workflow()
def large() -> None:
    payload = write()
    nothing()
    read(payload)


@DBOS.workflow()
async def fan() -> None:
    await nothing_async()
    await asyncio.gather(*[nothing_async() for _ in range(8)])
    await nothing_async()


@DBOS.step()
def numbers(count: int) -> list[int]:
    return list(range(count))


@DBOS.workflow()
def item(number: int) -> int:
    return number


@DBOS.step()
def length(items: list[int]) -> int:
    return len(items)


@DBOS.workflow()
def mapped(count: int) -> int:
    queue = DBOS.retrieve_queue("items")
    handles = [queue.enqueue(item, number) for number in numbers(count)]
    return length([handle.get_result() for handle in handles])


class Dbos(Peer):
    cannot: ClassVar = {"W2-jobs": "it has no bare jobs"}
    settings: ClassVar = {
        "sqlite": "its default: rollback journal, synchronous=FULL",
        "postgres": "its default: the server's commit setting",
    }

    def __init__(self, url: str, workload: str) -> None:
        config: DBOSConfig = {
            "name": "peers",
            "system_database_url": url,
            "log_level": "WARNING",
        }
        DBOS(config=config)
        DBOS.launch()
        DBOS.register_queue("items", polling_interval_sec=0.01)

    def at_once(self, workflow: Callable[[], Any], count: int) -> None:
        for handle in [DBOS.start_workflow(workflow) for _ in range(count)]:
            handle.get_result()

    def chain(self) -> None:
        chain()

    def singles(self, count: int) -> None:
        self.at_once(single, count)

    def fans(self, count: int) -> None:
        self.at_once(fan, count)

    def large(self) -> None:
        large()

    def larges(self, count: int) -> None:
        self.at_once(large, count)

    def mapped(self, count: int) -> None:
        assert mapped(count) == count

    def close(self) -> None:
        DBOS.destroy()


if __name__ == "__main__":
    main(Dbos)
