"""Huey: a queue with pipelines and chords; its consumer is a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any, ClassVar

from huey import Huey, PostgresHuey, SqliteHuey, chord
from protocol import PAYLOAD, WORKERS, Peer, main

#: The environment variable with the database URL for the consumer.
URL = "HUEY_PEER_URL"


def connect(url: str) -> Huey:
    """Returns Huey on a database. Huey stores results, so that callers can wait for them."""
    if url.startswith("sqlite:///"):
        return SqliteHuey("peer", filename=url.removeprefix("sqlite:///"), fsync=True, timeout=30)
    return PostgresHuey("peer", dsn=url)


def database_url() -> str:
    """Returns the database URL, from the environment (in the consumer) or the command line."""
    return os.environ.get(URL) or sys.argv[2]


huey = connect(database_url())


@huey.task()
def one() -> bool:
    return True


@huey.task()
def two(previous: Any) -> Any:
    return previous


@huey.task()
def three(previous: Any) -> bool:
    return True


@huey.task()
def write() -> list[Any]:
    return PAYLOAD


@huey.task()
def read(payload: list[Any]) -> bool:
    return len(payload) == len(PAYLOAD)


@huey.task()
def last(previous: list[bool]) -> bool:
    return all(previous)


@huey.task()
def first(end: str) -> bool:
    # A pipeline cannot contain a chord, so the first task starts it.
    huey.enqueue(chord([one.s() for _ in range(8)], last.s(id=end)))
    return True


@huey.task()
def item(number: int) -> int:
    return number


@huey.task()
def length(items: list[int]) -> int:
    return len(items)


@huey.task()
def numbers(count: int, end: str) -> bool:
    huey.enqueue(chord([item.s(number) for number in range(count)], length.s(id=end)))
    return True


def wait(result: Any) -> None:
    """Waits for a result. Polls more often than Huey does by default."""
    assert result(blocking=True, max_delay=0.005) is True


class HueyPeer(Peer):
    cannot: ClassVar = {"W2-jobs": "W2 already uses bare jobs"}
    settings: ClassVar = {
        "sqlite": "fsync=True (WAL, synchronous=FULL)",
        "postgres": "its default: the server's commit setting",
    }

    def __init__(self, url: str, workload: str) -> None:
        # Polls every 10 ms instead of the default 100 ms; PostgreSQL also sends notifications.
        command = [Path(sys.executable).with_name("huey_consumer"), "huey_peer.huey"]
        options = ["-k", "thread", "-w", str(WORKERS), "-d", "0.01", "-m", "0.01", "-q"]
        self.consumer = subprocess.Popen(
            [*command, *options], env={**os.environ, URL: url}, cwd=Path(__file__).parent
        )

    def chain(self) -> None:
        wait(list(huey.enqueue(one.s().then(two).then(three)))[-1])

    def singles(self, count: int) -> None:
        for result in [one() for _ in range(count)]:
            wait(result)

    def fans(self, count: int) -> None:
        ends = [str(uuid.uuid4()) for _ in range(count)]
        for end in ends:
            first(end)
        for end in ends:
            assert huey.result(end, blocking=True, max_delay=0.005) is True

    def large(self) -> None:
        self.larges(1)

    def larges(self, count: int) -> None:
        for results in [huey.enqueue(write.s().then(two).then(read)) for _ in range(count)]:
            wait(list(results)[-1])

    def mapped(self, count: int) -> None:
        end = str(uuid.uuid4())
        numbers(count, end)
        assert huey.result(end, blocking=True, max_delay=0.005) == count

    def close(self) -> None:
        self.consumer.terminate()
        self.consumer.wait()


if __name__ == "__main__":
    # The module is imported by its name, as the consumer imports it, because task names contain the
    # name of the module.
    import huey_peer

    main(huey_peer.HueyPeer)
