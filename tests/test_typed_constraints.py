"""Constraints in annotations, and pydantic types that are not models (semantics J4)."""

import dataclasses
import datetime
import decimal
import re
import typing

import annotated_types
import attrs
import msgspec
import pydantic
import pytest
import typing_extensions

import cloaca
from cloaca.testing import VirtualRunner, run_task


class Remark:
    """Metadata that constrains nothing."""


class Dictionary(typing_extensions.TypedDict):
    n: pydantic.NonNegativeInt
    k: typing.NotRequired[int]


@dataclasses.dataclass
class Dataclass:
    n: typing.Annotated[int, annotated_types.Gt(0)]
    k: int = 1


@dataclasses.dataclass
class WithDuration:
    wait: typing.Annotated[datetime.timedelta, annotated_types.Gt(datetime.timedelta(0))]
    price: typing.Annotated[decimal.Decimal, annotated_types.Gt(0)]
    n: int = 1


class Struct(msgspec.Struct):
    n: typing.Annotated[int, annotated_types.Gt(0)]


@attrs.define
class Attrs:
    n: pydantic.PositiveInt


class Model(pydantic.BaseModel):
    n: int


@dataclasses.dataclass
class FieldClass:
    n: int = pydantic.Field(gt=0)


@dataclasses.dataclass
class MetaAndModel:
    n: typing.Annotated[int, msgspec.Meta(ge=0)]
    model: Model


def _is_above_ten(number: int) -> bool:
    return number > 10


Many = typing.Annotated[int, annotated_types.Predicate(_is_above_ten)]
CONSTRAINED = [
    (pydantic.PositiveInt, 3, -3),
    (pydantic.conint(gt=3), 4, 3),
    (pydantic.conlist(int, min_length=2), [1, 2], [1]),
    (pydantic.NonNegativeInt, 0, -1),
    (typing.Annotated[int, annotated_types.Gt(0)], 3, 0),
    (typing.Annotated[int, annotated_types.Interval(ge=1, le=2)], 1, 3),
    (typing.Annotated[str, annotated_types.MaxLen(2)], "ab", "abc"),
    (list[pydantic.PositiveInt], [1], [1, 0]),
    (pydantic.PositiveInt | None, None, -1),
    (Many, 11, 1),
    (Dictionary, {"n": 0}, {"n": -1}),
    (Dataclass, Dataclass(1), {"n": 0}),
    (typing.Annotated[int, pydantic.Field(gt=0)], 1, 0),
    (typing.NewType("Positive", pydantic.PositiveInt), 1, 0),
    (FieldClass, FieldClass(1), {"n": 0}),
]
# Memory addresses are removed, because test names must be equal in all workers of a parallel run.
names = [re.sub(" at 0x[0-9a-f]+", "", str(kind)) for kind, *_ in CONSTRAINED]


def take(annotation):
    def work(value):
        return value

    work.__annotations__.update({"value": annotation, "return": annotation})
    return work


@pytest.mark.parametrize(("annotation", "right", "wrong"), CONSTRAINED, ids=names)
def test_j4_constraint_of_an_input_is_checked(annotation, right, wrong):
    with cloaca.WorkflowBuilder("checked", input={"n": annotation}, output="work"):

        def work(n):
            return n

        work.__annotations__.update({"n": annotation, "return": annotation})
        cloaca.task(work)

    with VirtualRunner() as runner:
        with pytest.raises(cloaca.WorkflowInputError) as caught:
            runner.submit("checked", {"n": wrong})
        assert caught.value.path.startswith("n")
        result = runner.execute("checked", {"n": right})
        assert result.status == "Completed", result.error_message
        assert result.output == right
        assert len(runner.list_executions().items) == 1


@pytest.mark.parametrize(("annotation", "right", "wrong"), CONSTRAINED, ids=names)
def test_j4_constraint_of_a_parameter_is_checked(annotation, right, wrong):
    run_task(take(annotation), value=right)
    with pytest.raises(cloaca.TaskInputError):
        run_task(take(annotation), value=wrong)


@pytest.mark.parametrize("model", [Dictionary, Dataclass])
def test_j4_constraint_of_an_input_class_field_is_checked(model):
    with cloaca.WorkflowBuilder("checked", input=model):
        cloaca.task(id="one")(lambda: None)
    with VirtualRunner() as runner:
        with pytest.raises(cloaca.WorkflowInputError, match="`n`: Input should be greater than"):
            runner.submit("checked", {"n": -3})
        assert runner.list_executions().items == []


def test_j4_fields_are_strict_although_the_model_has_constraints():
    for wrong in ({"n": "5"}, {"n": 5, "k": "5"}):
        with pytest.raises(cloaca.TaskInputError):
            run_task(take(Dataclass), value=wrong)
    given = {"wait": 90, "price": decimal.Decimal("1.10"), "n": 5}
    seen = []
    run_task(typed(WithDuration, seen), value=given)
    assert seen == [WithDuration(datetime.timedelta(seconds=90), decimal.Decimal("1.10"), 5)]
    with pytest.raises(cloaca.TaskInputError, match=r"`value\.wait`: Input should be greater"):
        run_task(take(WithDuration), value={**given, "wait": -1.5})


def typed(annotation, seen):
    def work(value):
        seen.append(value)

    work.__annotations__["value"] = annotation
    return work


@pytest.mark.parametrize(
    ("annotation", "reason", "hint"),
    [
        (Struct, r"only pydantic checks the constraint Gt\(gt=0\)", "msgspec.Meta"),
        (Attrs, "only pydantic checks the constraint", "msgspec.Meta"),
        (MetaAndModel, r"would ignore the constraint msgspec\.Meta\(ge=0\)", "pydantic.Field"),
        (
            typing.Annotated[datetime.datetime, annotated_types.Timezone(None)],
            "neither pydantic nor msgspec checks the constraint Timezone",
            "validator",
        ),
    ],
)
def test_j4_constraint_that_its_library_would_ignore_is_refused(annotation, reason, hint):
    with pytest.raises(cloaca.WorkflowValidationError, match=reason) as caught:
        cloaca.WorkflowBuilder("refused", input={"n": annotation})
    assert hint in caught.value.hint
    with pytest.raises(cloaca.TaskValidationError, match=reason) as refused:
        run_task(take(annotation), value=1)
    assert hint in refused.value.hint


@pytest.mark.parametrize("remark", ["text", Remark(), 3, annotated_types.Unit("m"), None])
def test_j4_metadata_that_constrains_nothing_is_ignored(remark):
    annotation = typing.Annotated[int, remark]
    assert run_task(take(annotation), value=-1)["work"] == -1
    with pytest.raises(cloaca.TaskInputError):
        run_task(take(annotation), value="5")


def test_j4_constraint_without_pydantic_is_refused(script):
    process = script(
        """
        import sys

        sys.modules["pydantic"] = None

        import typing
        import annotated_types
        import cloaca

        try:
            cloaca.WorkflowBuilder("w", input={"n": typing.Annotated[int, annotated_types.Gt(0)]})
        except cloaca.WorkflowValidationError as error:
            print(error)
        """
    )
    out, err = process.communicate(timeout=60)
    assert "only pydantic checks the constraint Gt(gt=0), but it is not installed" in out, err
    assert "hint: write the constraint with msgspec.Meta" in out


TYPES = [
    (pydantic.HttpUrl, "https://a.example/", "no url"),
    (pydantic.AwareDatetime, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05"),
    (pydantic.PastDate, "2001-01-02", "9999-01-02"),
    (pydantic.ByteSize, "1kb", "many"),
    (pydantic.UUID4, "c9bf9e57-1685-4c89-bafb-ff5af830be8a", "x"),
    (pydantic.Json[list[int]], "[1]", "{"),
    (pydantic.Base64Str, "aGk=", "h"),
    (list[pydantic.HttpUrl], ["https://a.example/"], [1]),
    (pydantic.HttpUrl | None, None, 1),
]


@pytest.mark.parametrize(("annotation", "right", "wrong"), TYPES, ids=[str(t) for t, *_ in TYPES])
def test_j4_type_of_pydantic_is_decoded_by_pydantic(annotation, right, wrong):
    expected = pydantic.TypeAdapter(annotation).validate_python(right)
    seen = []

    def first(value):
        seen.append(value)
        return value

    def second(first):
        seen.append(first)

    first.__annotations__.update({"value": annotation, "return": annotation})
    second.__annotations__["first"] = annotation
    with cloaca.WorkflowBuilder("kinds", input={"value": annotation}, output="first"):
        cloaca.task(first)
        cloaca.task(second)
    with VirtualRunner() as runner:
        result = runner.execute("kinds", {"value": right})
        assert result.status == "Completed", result.error_message
        assert seen == [expected, expected]
        assert result.output == expected
        with pytest.raises(cloaca.WorkflowInputError):
            runner.submit("kinds", {"value": wrong})


def test_j4_secret_is_never_stored_as_asterisks():
    with cloaca.WorkflowBuilder("secret", input={"value": str}):

        @cloaca.task
        def made(value: str) -> pydantic.SecretStr:
            return pydantic.SecretStr(value)

        @cloaca.task
        def keyed(value: str) -> dict[int, pydantic.SecretStr]:
            return {1: pydantic.SecretStr(value)}

    with VirtualRunner() as runner:
        result = runner.execute("secret", {"value": "x"})
    assert result.error is not None
    assert "SecretStr" in result.error.message
    assert "SecretStr" in result.tasks["keyed"].error.message
    assert result.final_context.to_dict() == {"value": "x"}


def test_b1_duration_with_a_constraint_of_pydantic_is_stored_in_seconds():
    positive = typing.Annotated[datetime.timedelta, pydantic.Field(gt=datetime.timedelta(0))]
    with cloaca.WorkflowBuilder("timed", input={"wait": positive}):
        cloaca.task(id="one")(lambda: None)
    with VirtualRunner() as runner:
        assert runner.execute("timed", {"wait": 90}).final_context["wait"] == 90
