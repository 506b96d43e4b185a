"""Runs cloaca with the protocol of the other libraries, so that the figures are comparable."""

from __future__ import annotations

from typing import ClassVar

from protocol import PAYLOAD, WORKERS, Peer, main

import cloaca


def nothing(context: cloaca.Context) -> None:
    pass


def write(context: cloaca.Context) -> None:
    context["payload"] = PAYLOAD


def read(context: cloaca.Context) -> None:
    assert len(context["payload"]) == len(PAYLOAD)


def define(name: str, tasks: dict[str, tuple[object, list[str]]]) -> None:
    with cloaca.WorkflowBuilder(name):
        for task, (function, dependencies) in tasks.items():
            cloaca.task(id=task, dependencies=dependencies)(function)


MIDDLE = [f"middle{index}" for index in range(8)]
define("single", {"only": (nothing, [])})
define("chain", {"one": (nothing, []), "two": (nothing, ["one"]), "three": (nothing, ["two"])})
define("large", {"one": (write, []), "two": (nothing, ["one"]), "three": (read, ["two"])})
define(
    "fan",
    {
        "first": (nothing, []),
        **{name: (nothing, ["first"]) for name in MIDDLE},
        "last": (nothing, MIDDLE),
    },
)

with cloaca.WorkflowBuilder("mapped", input={"count": int}, output="length"):

    @cloaca.task
    def numbers(count: int) -> list[int]:
        return list(range(count))

    @cloaca.task(over=numbers)
    def item(numbers: int) -> int:
        return numbers

    @cloaca.task
    def length(item: list[int]) -> int:
        return len(item)


class Cloaca(Peer):
    cannot: ClassVar = {"W2-jobs": "it has no bare jobs"}
    settings: ClassVar = {
        "sqlite": "its default: WAL, synchronous=FULL",
        "postgres": "its default: the server's commit setting",
    }

    def __init__(self, url: str, workload: str) -> None:
        self.runner = cloaca.DefaultRunner(
            url, cloaca.DefaultRunnerConfig(max_concurrent_tasks=WORKERS)
        )

    def alone(self, workflow: str) -> None:
        assert self.runner.execute(workflow).status == "Completed"

    def at_once(self, workflow: str, count: int) -> None:
        for handle in self.runner.submit_many((workflow, None) for _ in range(count)):
            assert handle.result().status == "Completed"

    def chain(self) -> None:
        self.alone("chain")

    def singles(self, count: int) -> None:
        self.at_once("single", count)

    def fans(self, count: int) -> None:
        self.at_once("fan", count)

    def large(self) -> None:
        self.alone("large")

    def larges(self, count: int) -> None:
        self.at_once("large", count)

    def mapped(self, count: int) -> None:
        assert self.runner.execute("mapped", {"count": count}).output == count

    def close(self) -> None:
        self.runner.shutdown()


if __name__ == "__main__":
    main(Cloaca)
