"""A typed program, inputs that do not match their model, and values that cannot be decoded.

The tests that run workflows use a real database. The tests with a parameter `model` or `library`
run with each kind of model except attrs (semantics J1, J3, J4, J5 and J9).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import sqlite3
import subprocess
import sys
import typing

import msgspec
import pydantic
import pytest

import cloaca
from typed_support import SMTP, Row, Total, made, open_smtp


class PydanticOrder(pydantic.BaseModel):
    order_id: str
    urls: list[str]


class StructOrder(msgspec.Struct):
    order_id: str
    urls: list[str]


@dataclasses.dataclass
class DataclassOrder:
    order_id: str
    urls: list[str]


class TypedDictOrder(typing.TypedDict):
    order_id: str
    urls: list[str]


FIELDS = {"order_id": str, "urls": list[str]}
URLS = ["a", "bcd"]


@pytest.mark.parametrize(
    ("model", "order"),
    [
        (PydanticOrder, PydanticOrder(order_id="o-1", urls=URLS)),
        (StructOrder, StructOrder("o-1", URLS)),
        (DataclassOrder, DataclassOrder("o-1", URLS)),
        (TypedDictOrder, TypedDictOrder(order_id="o-1", urls=URLS)),
        (FIELDS, {"order_id": "o-1", "urls": URLS}),
    ],
    ids=["pydantic", "msgspec", "dataclass", "TypedDict", "dict"],
)
def test_j1_typed_program_runs_with_any_model(runner, model, order):
    made.clear()
    with cloaca.WorkflowBuilder("typed_order", input=model, output="total") as builder:

        @cloaca.task
        def rows(urls: list[str]) -> list[Row]:
            return [Row(len(url)) for url in urls]

        @cloaca.task
        def total(rows: list[Row], order_id: str, tax: float = 0.19) -> Total:
            assert order_id == "o-1"
            return Total(round(sum(row.price for row in rows) * (1 + tax), 2))

        @cloaca.task
        def mail(
            total: Total = cloaca.result(total), smtp: SMTP = cloaca.resource(open_smtp)
        ) -> str:
            assert smtp.is_open
            return f"the total is {total.sum}"

    result = runner.execute("typed_order", order).raise_for_status()
    assert result.output == Total(4.76)
    assert result.of(rows) == [Row(1), Row(3)]
    assert result.of(mail) == "the total is 4.76"
    assert total([Row(1)], "o-1") == Total(1.19)
    assert builder.build().dependencies == {"rows": [], "total": ["rows"], "mail": ["total"]}
    assert len(made) == 1


class PydanticLine(pydantic.BaseModel):
    day: datetime.date
    prices: list[float]


class PydanticCart(pydantic.BaseModel):
    lines: list[PydanticLine]


class StructLine(msgspec.Struct):
    day: datetime.date
    prices: list[float]


class StructCart(msgspec.Struct):
    lines: list[StructLine]


@dataclasses.dataclass
class DataclassLine:
    day: datetime.date
    prices: list[float]


@dataclasses.dataclass
class DataclassCart:
    lines: list[DataclassLine]


class TypedDictLine(typing.TypedDict):
    day: datetime.date
    prices: list[float]


class TypedDictCart(typing.TypedDict):
    lines: list[TypedDictLine]


LINES = {
    "pydantic": PydanticLine,
    "msgspec": StructLine,
    "dataclass": DataclassLine,
    "TypedDict": TypedDictLine,
}
CARTS = {
    "pydantic": PydanticCart,
    "msgspec": StructCart,
    "dataclass": DataclassCart,
    "TypedDict": TypedDictCart,
    "dict": {"lines": list[StructLine]},
}
LINE = {"day": "2026-01-02", "prices": [1.5]}


TABLES = ("definitions", "executions", "inputs", "tasks", "events", "inbox", "children")


def row_counts(database: str) -> list[int]:
    """Returns the number of rows of each table that a submission could write."""
    counts = ", ".join(f"(SELECT count(*) FROM cloacina_{table})" for table in TABLES)
    if database.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(database.removeprefix("sqlite:///"))) as file:
            return list(file.execute(f"SELECT {counts}").fetchone())
    command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", database, "--command"]
    done = subprocess.run(
        [*command, f"SELECT {counts}"], check=True, stdout=subprocess.PIPE, text=True
    )
    return [int(count) for count in done.stdout.split("|")]


@pytest.mark.parametrize("library", CARTS)
def test_j5_wrong_input_writes_no_row_and_names_the_path(database, library):
    with cloaca.WorkflowBuilder("wrong_cart", input=CARTS[library]):
        cloaca.task(id="one")(lambda: None)
    wrong = [
        ({"lines": [LINE, {**LINE, "prices": [1, "much"]}]}, "lines[1].prices[1]"),
        ({"lines": [{**LINE, "day": "never"}]}, "lines[0].day"),
        ({"lines": 3}, "lines"),
    ]
    with cloaca.DefaultRunner(database) as runner:
        before = row_counts(database)
        assert before[TABLES.index("executions")] == 0
        for given, path in wrong:
            for call in (
                lambda given=given: runner.submit("wrong_cart", given),
                lambda given=given: runner.execute("wrong_cart", given, key="k"),
                lambda given=given: runner.submit_many(
                    [("wrong_cart", {"lines": [LINE]}), ("wrong_cart", given)]
                ),
            ):
                with pytest.raises(cloaca.WorkflowInputError) as caught:
                    call()
                assert caught.value.path == path
                assert f"`{path}`: " in caught.value.message
        assert row_counts(database) == before
        # The refused submissions have not used up the key.
        handle = runner.submit("wrong_cart", {"lines": [LINE]}, key="k")
        assert handle.created
        assert handle.result(timeout=60).status == "Completed"


def take(model: object):
    """Returns a task function whose parameter `line` is annotated with the model."""

    def use(line):
        raise AssertionError

    use.__annotations__["line"] = model
    return use


WRONG = {"day": "2026-01-02", "prices": [1.5, "much"]}


SOURCES = ["task", "context", "context task", "map", "child", "signal"]


@pytest.mark.parametrize("library", LINES)
def test_j9_value_that_does_not_decode_is_not_retried(runner, database, library):
    with cloaca.WorkflowBuilder("undecodable_child", output="line"):
        cloaca.task(id="line")(lambda: WRONG)
    for source in SOURCES:
        with cloaca.WorkflowBuilder("undecodable"):
            options = {"retry_attempts": 5, "retry_delay_ms": 1, **define_producer(source)}
            cloaca.task(id="use", **options)(take(LINES[library]))
        handle = runner.submit("undecodable", {"line": WRONG, "lines": [WRONG]})
        if source == "signal":
            # A process that does not define the task cannot validate the data. The task does.
            command = [sys.executable, "-m", "cloaca", "send", "line", json.dumps(WRONG)]
            environment = os.environ | {"CLOACA_DATABASE_URL": database}
            subprocess.run([*command, "--to", handle.id], env=environment, check=True)
        ended = handle.result(timeout=60).tasks["use"]
        if source == "map":
            (ended,) = runner.items(handle.id, "use").items
        assert (ended.error.type, ended.attempts) == ("TaskInputError", 1), source
        assert "parameter 'line'" in ended.error.message, source
        assert "`line.prices[1]`: " in ended.error.message, source


def define_producer(source: str) -> dict[str, object]:
    """Defines the source of the value, and returns the options of the task that takes the value."""
    if source == "task":
        cloaca.task(id="line")(lambda: WRONG)
    elif source == "context task":
        cloaca.task(id="line")(lambda context: {"line": WRONG})
    elif source == "child":
        cloaca.child("line", workflow="undecodable_child")
    elif source == "map":
        return {"over": "lines"}
    elif source == "signal":
        return {"wait_for": cloaca.signal("line")}
    return {}


def test_j3_mapping_returned_by_a_context_task_holds_its_result(runner):
    """The value that a task stores under its own id is the result that other tasks get."""
    with cloaca.WorkflowBuilder("mapping_return", output="total"):

        @cloaca.task
        def rows(context):
            return {"rows": [1, 2], "other": 3}

        @cloaca.task
        def total(rows: list[int]) -> int:
            return sum(rows)

    result = runner.execute("mapping_return").raise_for_status()
    assert (result.output, result.final_context["other"]) == (3, 3)


def test_j1_signal_and_element_take_precedence_over_a_task(runner):
    with cloaca.WorkflowBuilder("precedence", input={"urls": list[str]}) as builder:

        @cloaca.task
        def paid() -> int:
            return 1

        @cloaca.task(wait_for=cloaca.signal("paid"))
        def book(paid: str) -> str:
            return paid

        @cloaca.task(over={"paid": "urls"})
        def fetch(paid: str) -> str:
            return paid

    dependencies = builder.build().dependencies
    assert dependencies == {"paid": [], "book": [], "fetch": []}
    handle = runner.submit("precedence", {"urls": ["a", "b"]})
    runner.send("paid", "signal", to=handle.id)
    result = handle.result(timeout=60).raise_for_status()
    assert (result.of(book), result.of(fetch)) == ("signal", ["a", "b"])


@pytest.mark.parametrize(
    ("options", "other"),
    [
        ({"wait_for": cloaca.signal("paid")}, "the signal 'paid'"),
        ({"over": {"paid": "urls"}}, "the element 'paid'"),
    ],
)
def test_j1_result_that_a_signal_or_element_replaces_is_refused(options, other):
    """Both values have the same key, so the parameter would not receive the task's result."""

    def mark(paid: object, amount: int = cloaca.result("paid")) -> int:
        return amount

    def define():
        with cloaca.WorkflowBuilder("replaced_result", input={"urls": list[str]}):
            cloaca.task(id="paid")(lambda: 1)
            cloaca.task(**options)(mark)

    with pytest.raises(cloaca.TaskValidationError, match=f"but {other} of the task") as caught:
        define()
    assert "rename the result with output=" in str(caught.value)
