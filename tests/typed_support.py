"""The workflow and types that the tests of typed tasks share."""

from __future__ import annotations

import dataclasses

import msgspec
from pydantic import BaseModel

import cloaca
from cloaca.testing import VirtualRunner


class Order(BaseModel):
    order_id: str
    urls: list[str]


class Row(msgspec.Struct):
    price: float


@dataclasses.dataclass
class Total:
    sum: float


class SMTP:
    def __init__(self) -> None:
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


made: list[SMTP] = []


def open_smtp() -> SMTP:
    made.append(SMTP())
    return made[-1]


def build_order() -> dict[str, object]:
    with cloaca.WorkflowBuilder("order", input=Order, output="total") as builder:

        @cloaca.task
        def rows(urls: list[str]) -> list[Row]:
            return [Row(len(url)) for url in urls]

        @cloaca.task
        def total(rows: list[Row], order_id: str, tax: float = 0.5) -> Total:
            assert all(isinstance(row, Row) for row in rows)
            assert order_id == "o-1"
            return Total(sum(row.price for row in rows) * (1 + tax))

        @cloaca.task
        def mail(
            total: Total = cloaca.result(total), smtp: SMTP = cloaca.resource(open_smtp)
        ) -> str:
            assert smtp.is_open
            return f"the total is {total.sum}"

    return {"builder": builder, "rows": rows, "total": total, "mail": mail}


def build(define, **options):
    """Builds a workflow `typed` from the tasks that `define` defines."""
    with cloaca.WorkflowBuilder("typed", **options) as builder:
        define()
    return builder


def run(context=None, *, name="typed", expect="Completed"):
    """Runs a workflow on a virtual clock, asserts its status, and returns its result."""
    with VirtualRunner() as runner:
        result = runner.execute(name, context)
    assert result.status == expect, result.error_message
    return result


def failure(context=None, name="typed"):
    """Runs a workflow whose task fails without a retry, and returns the error."""
    result = run(context, name=name, expect="Failed")
    assert result.error is not None
    assert result.tasks[result.error.task_id].attempts == 1
    return result.error
