"""Mappings whose keys are not strings, in typed values and inputs (semantics J4)."""

import dataclasses
import datetime
import decimal
import enum
import typing
import uuid

import msgspec
import pydantic
import pytest

import cloaca
from cloaca.testing import VirtualRunner, run_task


class Colour(enum.Enum):
    RED = "red"


class Struct(msgspec.Struct):
    m: dict[int, str]


@dataclasses.dataclass
class Dataclass:
    m: dict[int, str]


class Model(pydantic.BaseModel):
    m: dict[int, str]


DAY = datetime.date(2026, 1, 2)
KEYED = [
    (dict[int, str], {1: "a"}, {"1": "a"}),
    (dict[float, int], {1.5: 1}, {"1.5": 1}),
    (dict[Colour, int], {Colour.RED: 1}, {"red": 1}),
    (dict[datetime.date, int], {DAY: 1}, {"2026-01-02": 1}),
    (dict[datetime.timedelta, int], {datetime.timedelta(1): 1}, {"P1DT0.000000S": 1}),
    (dict[uuid.UUID, int], {uuid.UUID(int=7): 1}, {str(uuid.UUID(int=7)): 1}),
    (dict[decimal.Decimal, int], {decimal.Decimal("1.10"): 1}, {"1.10": 1}),
    (list[dict[int, dict[int, str]]], [{1: {2: "a"}}], [{"1": {"2": "a"}}]),
    (typing.Mapping[int, str] | None, {1: "a"}, {"1": "a"}),
    (dict[int, pydantic.HttpUrl], {1: pydantic.HttpUrl("http://a/")}, {"1": "http://a/"}),
    (Struct, Struct({1: "a"}), {"m": {"1": "a"}}),
    (Dataclass, Dataclass({1: "a"}), {"m": {"1": "a"}}),
    (Model, Model(m={1: "a"}), {"m": {"1": "a"}}),
    (list[Struct], [Struct({1: "a"})], [{"m": {"1": "a"}}]),
    (dict[int, Model], {1: Model(m={2: "a"})}, {"1": {"m": {"2": "a"}}}),
]


@pytest.mark.parametrize(("annotation", "value", "stored"), KEYED, ids=[str(k[0]) for k in KEYED])
def test_j4_keys_are_stored_as_text_and_decoded_again(annotation, value, stored):
    seen = []

    def first(value):
        seen.append(value)
        return value

    def second(first):
        seen.append(first)

    first.__annotations__.update({"value": annotation, "return": annotation})
    second.__annotations__["first"] = annotation
    with cloaca.WorkflowBuilder("keyed", input={"value": annotation}, output="first"):
        cloaca.task(first)
        cloaca.task(second)
    with VirtualRunner() as runner:
        for given in (value, stored):
            result = runner.execute("keyed", {"value": given})
            assert result.status == "Completed", result.error_message
            assert result.final_context["value"] == stored
            assert result.final_context["first"] == stored
            assert result.output == value
    assert seen == [value] * 4
    assert run_task(first, value=value)["first"] == stored


@pytest.mark.parametrize("model", [Struct, Dataclass, Model])
def test_j5_model_with_non_string_keys_can_be_an_input(model):
    with cloaca.WorkflowBuilder("keyed", input=model, output="out"):

        @cloaca.task
        def out(m: dict[int, str]) -> list[int]:
            return list(m)

    with VirtualRunner() as runner:
        for given in ({"m": {"1": "a"}}, {"m": {1: "a"}}, model(m={1: "a"})):
            assert runner.execute("keyed", given).output == [1]


def test_j4_struct_in_a_context_has_text_keys():
    context = cloaca.Context({"s": Struct({1: "a"})})
    assert context["s"] == {"m": {"1": "a"}}


def test_b1_keys_that_are_not_strings_need_an_annotation():
    with pytest.raises(TypeError, match="the key 1 of an object"):
        cloaca.Context({"m": {1: "a"}})
    with pytest.raises(TypeError, match="the key 1 of an object"):
        run_task(lambda: {1: "a"})

    def typed() -> dict[str, str]:
        return {1: "a"}

    with pytest.raises(TypeError, match="the key 1 of an object"):
        run_task(typed)


def test_j4_two_keys_with_the_same_text_are_refused():
    def twice() -> dict[int | str, str]:
        return {1: "a", "1": "b"}

    with pytest.raises(TypeError, match="two keys of an object have the text '1'"):
        run_task(twice)


def test_j4_keys_that_json_cannot_have_are_refused():
    def pairs() -> dict[tuple[int, int], str]:
        return {(1, 2): "a"}

    with pytest.raises(cloaca.TaskValidationError, match="keys of JSON objects are strings"):
        run_task(pairs)


class Share(enum.Enum):
    HALF = 0.5


class Switch(enum.Enum):
    ON = True


NamedShare = typing.NewType("NamedShare", Share)


@dataclasses.dataclass
class Grid:
    cells: dict[tuple[int, int], str]


@pytest.mark.parametrize(
    "annotation",
    [
        dict[tuple[int, int], str],
        dict[bool, str],
        dict[Struct, int],
        list[typing.Mapping[tuple[int, ...] | None, str]],
        dict[tuple[int, int], Model],
        Grid,
        dict[Share, int],
        dict[Share | int, int],
        dict[NamedShare, int],
        dict[Switch, int],
    ],
    ids=str,
)
def test_j4_annotation_with_keys_that_json_cannot_have_is_refused(annotation):
    def takes(value):
        return 1

    takes.__annotations__["value"] = annotation
    builder = cloaca.WorkflowBuilder("keyed")
    with pytest.raises(cloaca.TaskValidationError, match="has no text") as raised, builder:
        cloaca.task(takes)
    assert raised.value.hint == "use a list of pairs"
    with pytest.raises(cloaca.WorkflowValidationError, match="has no text"):
        cloaca.WorkflowBuilder("keyed", input={"value": annotation})


def test_j4_model_of_pydantic_may_convert_other_keys_itself():
    class Cells(pydantic.BaseModel):
        cells: dict[tuple[int, int], str]

        @pydantic.field_validator("cells", mode="before")
        @classmethod
        def split(cls, value):
            return {tuple(map(int, key.split(","))): text for key, text in value.items()}

        @pydantic.field_serializer("cells")
        def join(self, value):
            return {",".join(map(str, key)): text for key, text in value.items()}

    def cells(value: Cells) -> str:
        return value.cells[1, 2]

    assert run_task(cells, value={"cells": {"1,2": "a"}})["cells"] == "a"


def test_t4_step_stores_keys_as_text_and_decodes_them():
    def count() -> dict[int, str]:
        return {1: "a"}

    with cloaca.WorkflowBuilder("keyed", output="work"):

        @cloaca.task(retry_delay_ms=1)
        def work(handle: cloaca.TaskHandle) -> list[int]:
            found = handle.step("count", count)
            if handle.attempt == 1:
                raise cloaca.Retry(after=0)
            return list(found)

    with VirtualRunner() as runner:
        result = runner.execute("keyed")
    assert result.output == [1], result.error_message
