"""Fields of one input that different libraries decode, and numbers with many digits (J4, J5, B1).

The libraries are pydantic and msgspec.
"""

import dataclasses
import decimal
import typing

import attrs
import msgspec
import pydantic
import pytest

import cloaca
from cloaca.testing import VirtualRunner, run_task


class Model(pydantic.BaseModel):
    n: int


class Struct(msgspec.Struct):
    n: int


@attrs.define
class AttrsWithModel:
    model: Model


def define(model, **options):
    with cloaca.WorkflowBuilder("mixed", input=model, **options) as builder:
        cloaca.task(id="one")(lambda: None)
    return builder


def test_j5_each_field_is_decoded_by_its_own_library():
    with cloaca.WorkflowBuilder("mixed", input={"m": Model, "s": Struct}, output="out") as builder:

        @cloaca.task
        def out(m: Model, s: Struct) -> int:
            assert type(m) is Model
            assert type(s) is Struct
            return m.n + s.n

    with VirtualRunner() as runner:
        for given in ({"m": {"n": 1}, "s": {"n": 2}}, {"m": Model(n=1), "s": Struct(2)}):
            assert runner.execute("mixed", given).output == 3
        for name in ("m", "s"):
            with pytest.raises(cloaca.WorkflowInputError) as caught:
                runner.submit("mixed", {"m": {"n": 1}, "s": {"n": 2}, name: {"n": "x"}})
            assert caught.value.path == f"{name}.n"
    schema = builder.build().input_schema
    assert schema["properties"]["s"] == {"$ref": "#/$defs/Struct"}
    assert schema["properties"]["m"] == {"$ref": "#/$defs/Model"}
    assert sorted(schema["$defs"]) == ["Model", "Struct"]
    assert schema["required"] == ["m", "s"]


def test_j5_pydantic_field_leaves_other_fields_strict():
    define({"n": int, "m": Model})
    with VirtualRunner() as runner:
        with pytest.raises(cloaca.WorkflowInputError) as caught:
            runner.submit("mixed", {"n": "5", "m": {"n": "5"}})
        assert caught.value.path == "n"
        result = runner.execute("mixed", {"n": 5, "m": {"n": "5"}})
    assert result.final_context.to_dict() == {"n": 5, "m": {"n": 5}}


def test_j5_fields_that_are_not_required_may_be_missing():
    define({"n": typing.NotRequired[int], "m": typing.NotRequired[Model]})
    with VirtualRunner() as runner:
        assert runner.execute("mixed", {"x": 1}).final_context.to_dict() == {}
        with pytest.raises(cloaca.WorkflowInputError):
            runner.submit("mixed", {"n": "1"})


def test_j5_classes_with_the_same_name_keep_their_schemas():
    one, other = (
        msgspec.defstruct("Same", [("a", int)]),
        pydantic.create_model("Same", b=(str, ...)),
    )
    schema = define({"one": one, "other": other}).build().input_schema
    found = [
        list(schema["$defs"][part["$ref"].rpartition("/")[2]]["properties"])
        for part in schema["properties"].values()
    ]
    assert found == [["a"], ["b"]]


@pytest.mark.parametrize("annotation", [tuple[Struct, Model], AttrsWithModel, Model | Struct])
def test_j4_annotation_that_needs_both_libraries_is_refused(annotation):
    with pytest.raises(cloaca.WorkflowValidationError, match="field 'x': pydantic") as caught:
        cloaca.WorkflowBuilder("mixed", input={"x": annotation})
    assert "separate" in caught.value.hint

    def work(x):
        return x

    work.__annotations__["x"] = annotation
    with pytest.raises(cloaca.TaskValidationError, match="pydantic cannot decode") as refused:
        run_task(work, x=1)
    assert "separate" in refused.value.hint


# Numbers (B1)

DIGITS = "1.10000000000000000000001"
LONG = "123456789012345678901234567890.5"
TEXT = f'{{"a":{DIGITS},"big":{LONG},"n":1}}'


class AnyStruct(msgspec.Struct):
    a: object
    big: typing.Any
    n: int
    k: float = 0.5


class AliasModel(pydantic.BaseModel):
    a: object = pydantic.Field(alias="a_")
    big: typing.Any
    n: int
    k: float = 0.5


class AnyModel(pydantic.BaseModel):
    a: object
    big: typing.Any
    n: int
    k: float = 0.5


@dataclasses.dataclass
class FloatClass:
    a: float
    big: float
    n: int
    k: float = 0.5


@pytest.mark.parametrize(
    "model",
    [
        {"a": object, "big": typing.Any, "n": int},
        {"a": float, "big": float | None, "n": int},
        AnyStruct,
        AnyModel,
        FloatClass,
    ],
)
def test_b1_validated_input_keeps_all_digits(model):
    with cloaca.WorkflowBuilder("digits", input=model, output="out"):

        @cloaca.task
        def out(a: decimal.Decimal, big: decimal.Decimal) -> list[str]:
            return [str(a), str(big)]

    with VirtualRunner() as runner:
        result = runner.execute("digits", cloaca.Context.from_json(TEXT))
    assert result.output == [DIGITS, LONG]
    assert result.final_context.to_json().startswith(TEXT[:-1])
    if not isinstance(model, dict):
        assert result.final_context["k"] == 0.5


def test_b1_field_with_an_alias_keeps_all_digits():
    define(AliasModel)
    with VirtualRunner() as runner:
        given = cloaca.Context.from_json(TEXT.replace('"a"', '"a_"'))
        result = runner.execute("mixed", given)
    assert result.final_context.to_json() == f'{TEXT[:-1]},"k":0.5}}'


def test_b1_nested_numbers_keep_all_digits():
    text = f'{{"é":[{DIGITS},{{"x":[1e2,{LONG},12345678901234567890]}}]}}'
    define({"é": list[object]})
    with VirtualRunner() as runner:
        result = runner.execute("mixed", cloaca.Context.from_json(text))
    assert result.final_context.to_json() == text.replace("1e2", "100.0") or (
        result.final_context.to_json() == text
    )


def test_j5_values_are_stored_as_the_model_converts_them():
    class Converted(msgspec.Struct):
        price: decimal.Decimal
        whole: float
        count: int

    define(Converted)
    text = '{"price":1.10,"whole":5,"count":2}'
    with VirtualRunner() as runner:
        result = runner.execute("mixed", cloaca.Context.from_json(text))
    assert result.final_context.to_json() == '{"price":"1.10","whole":5.0,"count":2}'
