"""The declared input and output of a workflow (semantics J5, J8)."""

import asyncio
import copy
import dataclasses
import datetime
import decimal
import json
import pickle
import subprocess
import sys
import time
import typing

import attrs
import msgspec
import pydantic
import pytest

import cloaca
from cloaca.testing import VirtualRunner


class PydanticOrder(pydantic.BaseModel):
    order_id: str
    count: int = 1
    day: datetime.date | None = None


class StructOrder(msgspec.Struct):
    order_id: str
    count: int = 1
    day: datetime.date | None = None


@dataclasses.dataclass
class DataclassOrder:
    order_id: str
    count: int = 1
    day: datetime.date | None = None


@attrs.define
class AttrsOrder:
    order_id: str
    count: int = 1
    day: datetime.date | None = None


class TypedDictOrder(typing.TypedDict):
    order_id: str
    count: typing.NotRequired[int]
    day: typing.NotRequired[datetime.date | None]


CLASSES = [PydanticOrder, StructOrder, DataclassOrder, AttrsOrder]
STORED = {"order_id": "o-1", "count": 1, "day": None}


def define(model, **options):
    with cloaca.WorkflowBuilder("order", input=model, **options) as builder:

        @cloaca.task
        def show(order_id: str, count: int, day: datetime.date | None) -> str:
            return f"{order_id} {count} {day}"

    return builder


@pytest.mark.parametrize("model", CLASSES)
def test_j5_input_is_validated_and_defaults_are_filled_in(model):
    define(model, output="show")
    with VirtualRunner() as runner:
        for given in (
            {"order_id": "o-1"},
            cloaca.Context({"order_id": "o-1"}),
            model(order_id="o-1"),
        ):
            result = runner.execute("order", given)
            assert result.final_context.to_dict() == {**STORED, "show": "o-1 1 None"}
            assert result.output == "o-1 1 None"
        day = datetime.date(2026, 1, 2)
        assert runner.execute("order", {"order_id": "a", "day": day}).output == "a 1 2026-01-02"
        many = runner.submit_many(
            [("order", model("b") if model is not PydanticOrder else {"order_id": "b"})]
        )
        assert many[0].result().output == "b 1 None"


@pytest.mark.parametrize("model", [*CLASSES, TypedDictOrder, {"order_id": str, "count": int}])
@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"order_id": 3, "count": 1}, "order_id"),
        ({"order_id": "a", "count": "many"}, "count"),
        ({"count": 1}, ""),
        (None, ""),
    ],
)
def test_j5_wrong_input_stores_nothing_and_names_the_path(model, given, path):
    with cloaca.WorkflowBuilder("order", input=model):
        cloaca.task(id="one")(lambda: None)
    with VirtualRunner() as runner:
        calls = [
            lambda: runner.execute("order", given),
            lambda: runner.submit("order", given),
            lambda: runner.submit_many([("order", given)]),
            lambda: asyncio.run(runner.submit_async("order", given)),
            lambda: asyncio.run(runner.execute_async("order", given)),
            lambda: runner.submit(registered_workflow("order"), given),
        ]
        for call in calls:
            with pytest.raises(cloaca.WorkflowInputError) as caught:
                call()
            assert isinstance(caught.value, cloaca.WorkflowValidationError)
            assert caught.value.message.startswith("the input of workflow 'order' is not valid: ")
            assert caught.value.path in {path, path or "order_id"}
            if path:
                assert f"`{path}`: " in caught.value.message
            else:
                assert "order_id" in caught.value.message
        assert runner.list_executions().items == []


def registered_workflow(name):
    from cloaca._workflows.registry import registry

    return registry.workflow(name)


def test_j5_instance_with_wrong_values_is_refused():
    define(StructOrder)
    order = StructOrder("a")
    order.count = "many"
    with VirtualRunner() as runner, pytest.raises(cloaca.WorkflowInputError, match="`count`"):
        runner.execute("order", order)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda: setattr(order := PydanticOrder(order_id="a"), "count", "many") or order, "count"),
        (lambda: PydanticOrder.model_construct(order_id=5), "order_id"),
        (lambda: PydanticOrder.model_construct(count=5), "order_id"),
    ],
)
def test_j5_pydantic_instance_that_was_not_validated_is_refused(change, path):
    with cloaca.WorkflowBuilder("unvalidated_order", input=PydanticOrder):
        cloaca.task(id="one")(lambda: None)
    with VirtualRunner() as runner:
        with pytest.raises(cloaca.WorkflowInputError) as caught:
            runner.submit("unvalidated_order", change())
        assert caught.value.path == path
        assert f"`{path}`: " in caught.value.message
        assert runner.list_executions().items == []


@dataclasses.dataclass
class PositiveOrder:
    n: int

    def __post_init__(self) -> None:
        assert self.n > 0, "n must be positive"


class StrictOrder(pydantic.BaseModel):
    n: int

    @pydantic.field_validator("n")
    @classmethod
    def look_up(cls, n: int) -> int:
        return {1: 1}[n]


@pytest.mark.parametrize(
    ("model", "reason"),
    [(PositiveOrder, "AssertionError: n must be positive"), (StrictOrder, "KeyError: -1")],
)
def test_j5_any_error_that_a_model_raises_refuses_the_input(model, reason):
    with cloaca.WorkflowBuilder("positive_order", input=model):
        cloaca.task(id="one")(lambda: None)
    with VirtualRunner() as runner:
        with pytest.raises(cloaca.WorkflowInputError, match=reason):
            runner.submit("positive_order", {"n": -1})
        assert runner.list_executions().items == []


def test_j5_duration_field_does_not_make_other_fields_lenient():
    with cloaca.WorkflowBuilder(
        "timed_order", input={"n": int, "wait": datetime.timedelta}, output="show"
    ):

        @cloaca.task
        def show(n: int, wait: datetime.timedelta) -> str:
            return f"{n} {wait}"

    with VirtualRunner() as runner:
        with pytest.raises(cloaca.WorkflowInputError) as caught:
            runner.submit("timed_order", {"n": "5", "wait": 90})
        assert caught.value.path == "n"
        assert runner.execute("timed_order", {"n": 5, "wait": 90}).output == "5 0:01:30"
        assert runner.execute("timed_order", {"n": 5, "wait": "PT2S"}).output == "5 0:00:02"


def test_j5_secret_that_would_be_masked_is_refused():
    class Login(pydantic.BaseModel):
        user: str
        password: pydantic.SecretStr

    with cloaca.WorkflowBuilder("masked_login", input=Login):
        cloaca.task(id="one")(lambda: None)
    with VirtualRunner() as runner:
        for given in (
            {"user": "ann", "password": "x"},
            Login(user="ann", password=pydantic.SecretStr("x")),
        ):
            with pytest.raises(TypeError, match="`password` is a 'pydantic"):
                runner.submit("masked_login", given)
        assert runner.list_executions().items == []


@pytest.mark.parametrize("given", [[1], "text", 3])
def test_j5_input_that_is_not_a_mapping_is_a_type_error(given):
    define(StructOrder)
    with VirtualRunner() as runner, pytest.raises(TypeError, match="a mapping or a Context"):
        runner.execute("order", given)


def test_j5_each_field_of_an_input_dict_has_its_own_library():
    with cloaca.WorkflowBuilder(
        "order", input={"order": PydanticOrder, "price": decimal.Decimal, "any": object}
    ):

        @cloaca.task
        def show(order: PydanticOrder, price: decimal.Decimal) -> list[str]:
            return [order.order_id, str(price)]

    with VirtualRunner() as runner:
        order = PydanticOrder(order_id="o-1")
        given = {"order": order, "price": decimal.Decimal("1.10"), "any": [1]}
        result = runner.execute("order", given)
        assert result.of(show) == ["o-1", "1.10"]
        with pytest.raises(cloaca.WorkflowInputError) as caught:
            runner.execute("order", {**given, "order": {"order_id": 1}})
        assert caught.value.path == "order.order_id"


def test_j5_renamed_fields_are_read_by_their_external_names():
    class Renamed(msgspec.Struct, rename="camel"):
        order_id: str

    class Aliased(pydantic.BaseModel):
        order_id: str = pydantic.Field(alias="orderId")

    for model in (Renamed, Aliased):
        with cloaca.WorkflowBuilder("order", input=model):

            @cloaca.task
            def show(order_id: str) -> str:
                return order_id

        with VirtualRunner() as runner:
            assert runner.execute("order", {"orderId": "o-1"}).of(show) == "o-1"


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (3, "must be a class"),
        (int, "int has no fields"),
        ({1: str}, "must be a non-empty string"),
        ({"a": bytes}, "bytes are not JSON"),
        ({"a": "Missing"}, "Missing"),
    ],
)
def test_j5_unusable_model_is_refused(model, reason):
    with pytest.raises(cloaca.WorkflowValidationError, match=reason):
        cloaca.WorkflowBuilder("order", input=model)


def test_j5_schema_is_part_of_the_definition():
    for model in (*CLASSES, TypedDictOrder):
        schema = define(model).build().input_schema
        assert schema is not None
        assert schema["type"] == "object"
        assert sorted(schema["properties"]) == ["count", "day", "order_id"]
        assert schema["required"] == ["order_id"]
    nested = cloaca.WorkflowBuilder("order", input={"order": StructOrder})
    cloaca.WorkflowBuilder("plain")
    with nested:
        cloaca.task(id="one")(lambda: None)
    assert list(nested.build().input_schema["$defs"]) == ["StructOrder"]


def test_j5_version_does_not_depend_on_the_declared_input():
    assert define(StructOrder).build().version == define(PydanticOrder).build().version


def test_j5_input_of_a_schedule_is_validated_at_registration():
    class Tick(msgspec.Struct):
        order_id: str
        scheduled_time: datetime.datetime
        count: int = 2

    with cloaca.WorkflowBuilder("order", input=Tick, output="show"):

        @cloaca.task
        def show(order_id: str, count: int, scheduled_time: datetime.datetime) -> str:
            return f"{order_id} {count} {scheduled_time.minute}"

    with VirtualRunner() as runner:
        with pytest.raises(cloaca.WorkflowInputError, match="schedule of workflow 'order'"):
            runner.register_cron_workflow("order", "* * * * *", input={"order_id": 1})
        with pytest.raises(cloaca.WorkflowInputError):
            runner.register_cron_workflow("order", "* * * * *")
        assert runner.list_cron_schedules() == []
        id = runner.register_cron_workflow("order", "* * * * *", input={"order_id": "a"})
        assert runner.get_cron_schedule(id)["input"] == {"order_id": "a", "count": 2}
        runner.advance(70)
        execution = runner.list_executions().items[0]
        assert execution.status == "Completed", execution.error_message
        assert runner.get_execution(execution.execution_id).output.startswith("a 2 ")


def test_j5_input_from_a_trigger_is_validated_when_the_trigger_fires():
    define(StructOrder, output="show")
    results = [
        cloaca.TriggerResult.fire({"order_id": 1}),
        cloaca.TriggerResult.fire(StructOrder("a", 3)),
    ]

    @cloaca.trigger(name="orders", on="order", poll_interval="1s")
    def poll():
        return results.pop(0) if results else cloaca.TriggerResult.skip()

    try:
        with VirtualRunner() as runner:
            until = time.monotonic() + 60
            while not runner.list_executions().items and time.monotonic() < until:
                runner.advance(600)  # Repeated, because a poll runs on its own thread.
            (execution,) = runner.list_executions().items
            assert runner.get_execution(execution.execution_id).output == "a 3 None"
            history = runner.get_trigger_execution_history("orders")
            assert any("WorkflowInputError" in str(entry) for entry in history)
    finally:
        forget_trigger("orders")


def forget_trigger(name):
    from cloaca._workflows.registry import registry

    registry._trigger_revisions.pop(name)


# The output (J8)


def test_j8_output_is_the_final_context_if_none_is_declared():
    define(StructOrder)
    with VirtualRunner() as runner:
        result = runner.execute("order", {"order_id": "a"})
    assert result.output == result.final_context


def test_j8_output_can_be_a_tuple_of_results_and_fields():
    define(StructOrder, output=("show", "day"))
    with VirtualRunner() as runner:
        result = runner.execute("order", {"order_id": "a"})
    assert result.output == ("a 1 None", None)
    assert copy.copy(result).output == result.output
    assert pickle.loads(pickle.dumps(result)).of("show") == "a 1 None"


def test_j8_output_of_a_failed_execution_is_none():
    with cloaca.WorkflowBuilder("order", output="show"):

        @cloaca.task(retry_attempts=1)
        def show() -> str:
            raise ValueError("x")

    with VirtualRunner() as runner:
        result = runner.execute("order")
    assert result.output is None
    with pytest.raises(cloaca.ContextError, match="Failed"):
        result.of(show)
    with pytest.raises(cloaca.ContextError, match="no task 'shw'") as caught:
        result.of("shw")
    assert "did you mean 'show'?" in str(caught.value)


@pytest.mark.parametrize("output", [3, (), ("show", 3)])
def test_j8_output_must_be_a_name_or_a_tuple_of_names(output):
    with pytest.raises(cloaca.WorkflowValidationError, match="the output of workflow 'order'"):
        cloaca.WorkflowBuilder("order", output=output)


def test_j8_error_says_why_a_result_no_longer_decodes():
    define(StructOrder, output="show")
    with VirtualRunner() as runner:
        result = runner.execute("order", {"order_id": "a"})
        with cloaca.WorkflowBuilder("order", output="show"):
            show = cloaca.task(id="show")(changed)
        with pytest.raises(cloaca.TaskInputError, match="`show`: Expected `int`"):
            result.of(show)
        with pytest.raises(cloaca.TaskInputError, match="an earlier version"):
            assert result.output


def changed(n: int = 1) -> int:
    return n


def test_command_line_validates_the_input(tmp_path):
    module = tmp_path / "orders_module.py"
    module.write_text(
        "import cloaca\n"
        "with cloaca.WorkflowBuilder('cli_order', input={'n': int}, output='double'):\n"
        "    @cloaca.task\n"
        "    def double(n: int) -> int:\n"
        "        return 2 * n\n"
    )
    url = f"sqlite:///{tmp_path}/cli.db"

    def invoke(text):
        command = ["run", f"{module}:cli_order", "--input", text, "-c", url, "--json"]
        return subprocess.run(
            [sys.executable, "-m", "cloaca", *command], capture_output=True, text=True, check=False
        )

    wrong = invoke('{"n": "x"}')
    assert wrong.returncode == 1
    assert "the input of workflow 'cli_order' is not valid: `n`" in wrong.stderr
    right = invoke('{"n": 4}')
    assert (right.returncode, right.stderr) == (0, "")
    assert json.loads(right.stdout)["output"] == 8


def test_command_line_checks_the_stored_schema_without_the_module(tmp_path):
    url = f"sqlite:///{tmp_path}/submit.db"
    with cloaca.WorkflowBuilder("stored_order", input=StructOrder):
        cloaca.task(id="one")(lambda: None)
    with cloaca.DefaultRunner(url, start=False) as runner:
        runner.submit("stored_order", {"order_id": "first"})

    def submit(text):
        command = [sys.executable, "-m", "cloaca", "submit", "stored_order", text, "-c", url]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    wrong = submit('{"order_id": 3}')
    assert wrong.returncode == 1
    assert "is not valid: `order_id`: expected string, got integer" in wrong.stderr
    assert submit("{}").returncode == 1
    right = submit('{"order_id": "second"}')
    assert right.returncode == 0, right.stderr
    with cloaca.DefaultRunner(url, start=False) as runner:
        newest, _ = runner.list_executions(workflow="stored_order").items
        context = runner.get_execution(newest.execution_id).final_context.to_dict()
    assert context == {"order_id": "second", "count": 1, "day": None}


def test_j5_error_has_the_whole_path_of_each_field():
    with cloaca.WorkflowBuilder("pathed_order", input=PydanticOrder):
        cloaca.task(id="one")(lambda: None)
    with VirtualRunner() as runner, pytest.raises(cloaca.WorkflowInputError) as caught:
        runner.submit("pathed_order", {"count": "many", "day": "never"})
    assert caught.value.path == "order_id"
    assert [part.split("`")[1] for part in caught.value.message.split("; ")] == [
        "order_id",
        "count",
        "day",
    ]
