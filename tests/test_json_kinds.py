"""Kinds of JSON values: a parameter must accept the kind in which its value is stored (J6)."""

from __future__ import annotations

import datetime
import decimal
from typing import Annotated, Any, Literal

import pydantic
import pytest

import cloaca


class Shown(pydantic.BaseModel):
    n: int

    @pydantic.model_serializer
    def as_text(self) -> str:
        return f"n={self.n}"


class Fields(pydantic.BaseModel):
    wait: datetime.timedelta
    price: decimal.Decimal
    rounded: decimal.Decimal
    count: int | None
    pair: Annotated[list[int], pydantic.Field(json_schema_extra={"enum": [[1, 2], [3, 4]]})]
    word: Literal["a"] = "a"

    @pydantic.field_serializer("rounded")
    def round(self, rounded: decimal.Decimal):
        return float(rounded)


class Read(pydantic.BaseModel):
    n: int

    @pydantic.model_validator(mode="before")
    @classmethod
    def of_text(cls, value: object) -> object:
        return {"n": len(value)} if isinstance(value, str) else value


def passing(made, taken):
    """Returns a builder with two tasks.

    The first task returns type `made`. The second takes this result as a parameter of type `taken`.
    """

    def made_one():
        return None

    def take(made_one):
        return None

    made_one.__annotations__["return"] = made
    take.__annotations__["made_one"] = taken
    builder = cloaca.WorkflowBuilder("kinds_of_both_ends")
    for function in (made_one, take):
        cloaca.task(function)
        builder.add_task(function)
    return builder


@pytest.mark.parametrize(
    ("made", "taken"),
    [
        (datetime.timedelta, str),
        (decimal.Decimal, float),
        (decimal.Decimal | None, int | list[int]),
        (Read, str),
    ],
)
def test_j6_parameter_that_does_not_accept_the_stored_kind_is_refused(made, taken):
    with pytest.raises(cloaca.TaskValidationError, match="parameter 'made_one' takes"):
        passing(made, taken).build()


@pytest.mark.parametrize(
    ("made", "taken"),
    [
        (datetime.timedelta, float),
        (datetime.timedelta, datetime.timedelta),
        (decimal.Decimal, str),
        (float, decimal.Decimal),
        (str, datetime.timedelta),
        (Shown, str),
        (str, Read),
        (str, Annotated[list[Read], pydantic.BeforeValidator(str.split)]),
    ],
)
def test_j6_parameter_that_accepts_the_stored_kind_is_allowed(made, taken):
    passing(made, taken).build()


@pytest.mark.parametrize(
    ("field", "fits", "fails"),
    [
        ("wait", str, float),
        ("price", str, float),
        ("rounded", float, None),
        ("count", int, str),
        ("pair", list[int], str),
        ("word", str, int),
    ],
)
def test_j6_input_field_has_the_kind_that_pydantic_stores(field, fits, fails):
    def builder(taken):
        scope: dict[str, Any] = {}
        exec(f"def take({field}):\n    return {field}", scope)
        take = scope["take"]
        take.__annotations__[field] = taken
        found = cloaca.WorkflowBuilder("kinds_of_fields", input=Fields)
        cloaca.task(take)
        return found.add_task(take)

    builder(fits).build()
    if fails is not None:
        with pytest.raises(cloaca.TaskValidationError, match=f"the field '{field}' of the input"):
            builder(fails).build()
