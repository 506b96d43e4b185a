"""Decoding and encoding of typed values, for each kind of annotation (semantics J4)."""

import collections
import dataclasses
import datetime
import decimal
import enum
import sys
import typing
import uuid

import attrs
import msgspec
import pydantic
import pytest

import cloaca
from cloaca._tasks.parameters import read_signature
from cloaca.testing import VirtualRunner, run_task

T = typing.TypeVar("T")


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


@dataclasses.dataclass
class Box(typing.Generic[T]):
    item: T


@attrs.define
class Attrs:
    x: int


class Struct(msgspec.Struct):
    x: int
    inner: "Struct | None" = None


class Renamed(msgspec.Struct, rename="camel"):
    order_id: str


class Cat(msgspec.Struct, tag=True):
    name: str


class Dog(msgspec.Struct, tag=True):
    name: str


class Compact(msgspec.Struct, array_like=True):
    a: int
    b: str


class Model(pydantic.BaseModel):
    day: datetime.date
    order_id: str = pydantic.Field(default="o-1", alias="orderId")


class Computed(pydantic.BaseModel, extra="forbid"):
    a: int

    @pydantic.computed_field
    @property
    def double(self) -> int:
        return 2 * self.a


class TwoAliases(pydantic.BaseModel, serialize_by_alias=True):
    a: int = pydantic.Field(validation_alias="readA", serialization_alias="writtenA")


class Shown(pydantic.BaseModel):
    """A model whose JSON form is a string."""

    a: int

    @pydantic.model_serializer
    def as_text(self) -> str:
        return str(self.a)

    @pydantic.model_validator(mode="before")
    @classmethod
    def of_text(cls, value: object) -> object:
        return {"a": int(value)} if isinstance(value, str) else value


class Revealed(pydantic.BaseModel):
    password: pydantic.SecretStr
    note: str = "**********"

    @pydantic.field_serializer("password", when_used="json")
    def reveal(self, password: pydantic.SecretStr) -> str:
        return password.get_secret_value()


class Partial(msgspec.Struct):
    a: int | msgspec.UnsetType = msgspec.UNSET
    b: int = 2


class PartialList(msgspec.Struct, array_like=True):
    a: int
    b: int | msgspec.UnsetType = msgspec.UNSET


@dataclasses.dataclass
class PartialPoint:
    x: int
    y: int | msgspec.UnsetType = msgspec.UNSET


class Soon(msgspec.Struct, tag=1):
    after: datetime.timedelta
    n: int | None = None


class Later(msgspec.Struct, tag=2):
    after: float


class Row(msgspec.Struct, tag=True, array_like=True):
    after: dict[str, datetime.timedelta]
    rest: "list[Row | Line]" = []


class Line(msgspec.Struct, tag=True, array_like=True):
    length: float
    rest: "list[Row | Line]" = []


class Names(typing.TypedDict):
    a: int


class Pair(typing.NamedTuple):
    left: int
    right: str = "r"


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Rate(enum.Enum):
    HALF = 0.5
    FULL = 1


class Either(enum.Enum):
    NUMBER = 1
    TEXT = "one"


class Switch(enum.Enum):
    ON = True
    OFF = False


@dataclasses.dataclass
class Tariff:
    rate: Rate
    rates: list[Rate]


PointAndModel = dataclasses.make_dataclass("PointAndModel", [("point", Point), ("model", Model)])

MODEL = Model(day=datetime.date(2026, 1, 2), orderId="o-7")
BIG = 123456789012345678901234567890123

VALUES = [
    (int, BIG),
    (int, -(2**63) - 1),
    (float, 1.5),
    (str, "é\u2028"),
    (bool, True),
    (None, None),
    (list, [1, "a"]),
    (dict, {"a": [1]}),
    (list[int], [1, BIG]),
    (dict[str, list[int]], {"a": [1]}),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2)),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (collections.abc.Sequence[int], [1]),
    (collections.abc.Mapping[str, int], {"a": 1}),
    (int | None, None),
    (typing.Optional[int], 1),  # noqa: UP045
    (int | str | list[int], [1]),
    (typing.Literal["a", 1], "a"),
    (typing.Annotated[int, msgspec.Meta(ge=0)], 1),
    (typing.Annotated[Model, "remark"], MODEL),
    (datetime.datetime, datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)),
    (datetime.datetime, datetime.datetime(2026, 1, 2, 3, 4, 5, 678)),
    (datetime.date, datetime.date(2026, 1, 2)),
    (datetime.time, datetime.time(3, 4)),
    (datetime.timedelta, datetime.timedelta(seconds=90, microseconds=5)),
    (list[datetime.timedelta], [datetime.timedelta(days=1)]),
    (datetime.timedelta, datetime.timedelta(microseconds=-1)),
    (datetime.timedelta, datetime.timedelta(days=-999_999)),
    (tuple[datetime.timedelta, float], (datetime.timedelta(1), 0.1)),
    (datetime.timedelta | None, None),
    (datetime.timedelta | list[int], datetime.timedelta(1)),
    (Soon | Later | None, Soon(datetime.timedelta(1), BIG)),
    (Soon | Later, Later(1.5)),
    (Row | Line, Line(1.5, [Row({"a": datetime.timedelta(2)}), Line(2)])),
    (uuid.UUID, uuid.UUID(int=7)),
    (decimal.Decimal, decimal.Decimal("1.1000000000000000000000000001")),
    (Colour, Colour.RED),
    (Level, Level.HIGH),
    (Rate, Rate.HALF),
    (Rate | None, Rate.FULL),
    (list[Either], [Either.NUMBER, Either.TEXT]),
    (list[Switch], [Switch.ON, Switch.OFF]),
    (Tariff, Tariff(Rate.HALF, [Rate.FULL])),
    (dict[str, Colour], {"a": Colour.RED}),
    (Point, Point(1, 2)),
    (list[Point], [Point(1)]),
    (Box[int], Box(1)),
    (Box[Point], Box(Point(1))),
    (Attrs, Attrs(1)),
    (Struct, Struct(1, Struct(2))),
    (Renamed, Renamed("o-1")),
    (Cat | Dog, Dog("Rex")),
    (list[Cat | Dog], [Dog("Rex"), Cat("Tom")]),
    (Compact, Compact(1, "b")),
    (Names, {"a": 1}),
    (Pair, Pair(1)),
    (Model, MODEL),
    (list[Model], [MODEL]),
    (Model | None, None),
    (Computed, Computed(a=1)),
    (TwoAliases, TwoAliases(readA=1)),
    (list[TwoAliases], [TwoAliases(readA=1)]),
    (Shown, Shown(a=1)),
    (Revealed, Revealed(password="x")),
    (Partial, Partial()),
    (Partial, Partial(1)),
    (PartialList, PartialList(1)),
    (PartialPoint, PartialPoint(1)),
    (Model | Point, MODEL),
    (PointAndModel, PointAndModel(Point(1), MODEL)),
    (typing.Any, {"a": [None]}),
    (object, [1, 2]),
    ("list[Point]", [Point(1)]),
    ("typing.Annotated[Model, 1]", MODEL),
]


def name_of(value: object) -> str:
    return getattr(value, "__name__", None) or str(value)


def passing(annotation):
    """Returns a function that appends its argument to `seen`, and returns the argument.

    `annotation` is the annotation of the parameter and of the return value.
    """

    def work(value):
        seen.append(value)
        return value

    work.__annotations__.update({"value": annotation, "return": annotation})
    return work


seen: list[object] = []


@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=[name_of(kind) for kind, _ in VALUES])
def test_j4_typed_value_round_trips(annotation, value):
    seen.clear()
    with cloaca.WorkflowBuilder("values", output="second") as builder:
        cloaca.task(id="value")(lambda: value)
        cloaca.task(id="second")(passing(annotation))
    with VirtualRunner() as runner:
        result = runner.execute("values")
    assert result.status == "Completed", result.error_message
    (found,) = seen
    assert (found, type(found)) == (value, type(value))
    assert (result.output, type(result.output)) == (value, type(value))
    assert builder.build().dependencies["second"] == ["value"]


@pytest.mark.parametrize(
    ("annotation", "value", "path", "reason"),
    [
        (int, "1", "value", "Expected `int`, got `str`"),
        (int, 1.5, "value", "Expected `int`, got `float`"),
        (bool, 1, "value", "Expected `bool`, got `int`"),
        (list[Point], [{"x": 1}, {"y": 1}], "value[1]", "missing required field `x`"),
        (dict[str, Struct], {"a": {"x": None}}, "value[...].x", "Expected `int`, got `null`"),
        (typing.Annotated[int, msgspec.Meta(ge=0)], -1, "value", "Expected `int` >= 0"),
        (Colour, "blue", "value", "Invalid enum value 'blue'"),
        (datetime.date, "2026-13-01", "value", "Invalid"),
        (uuid.UUID, "x", "value", "Invalid UUID"),
        (Model, {"day": "x"}, "value.day", "valid date"),
        (list[Model], [{"day": "x"}], "value[0].day", "valid date"),
        (Model, {}, "value.day", "Field required"),
        (tuple[int, datetime.timedelta], ["5", 1], "value[0]", "Expected `int`, got `str`"),
        (Soon, {"type": 1, "after": 1, "n": "5"}, "value.n", "Expected `int | null`"),
        (list[datetime.timedelta], ["90"], "value[0]", "Invalid ISO8601 duration"),
        (datetime.timedelta, 10**30, "value", "Expected `duration`, got"),
        (datetime.timedelta, True, "value", "Expected `duration`, got `bool`"),
        (datetime.timedelta | int, "5", "value", "Invalid ISO8601 duration"),
    ],
)
def test_j9_error_has_the_path_and_the_reason_of_the_library(annotation, value, path, reason):
    with pytest.raises(cloaca.TaskInputError) as caught:
        run_task(passing(annotation), value=value)
    assert caught.value.path == path
    assert f"`{path}`: " in caught.value.message
    assert reason in caught.value.message


@dataclasses.dataclass
class Positive:
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise LookupError
        assert self.n > 0, "n must be positive"


def test_j9_error_that_a_model_raises_is_not_retried():
    ran = []
    with cloaca.WorkflowBuilder("positive_numbers"):

        @cloaca.task
        def number() -> dict[str, int]:
            return {"n": 0}

        @cloaca.task(retry_attempts=3)
        def use(number: Positive) -> int:
            ran.append(1)
            return number.n

    with VirtualRunner() as runner:
        result = runner.execute("positive_numbers")
    assert result.error is not None
    assert (result.error.type, result.tasks["use"].attempts, ran) == ("TaskInputError", 1, [])
    assert "`number`: AssertionError: n must be positive" in result.error.message
    with pytest.raises(cloaca.TaskInputError, match=r"`value`: LookupError$"):
        run_task(passing(Positive), value={"n": -1})


def test_j9_timeout_while_a_model_decodes_stays_a_timeout():
    @dataclasses.dataclass
    class Late:
        n: int

        def __post_init__(self) -> None:
            raise cloaca.TaskTimeoutError("too late")

    with pytest.raises(cloaca.TaskTimeoutError):
        run_task(passing(Late), value={"n": 1})


class Custom:
    pass


@dataclasses.dataclass
class RatedBytes:
    rate: Rate
    data: bytes


class Price(enum.Enum):
    LOW = decimal.Decimal("1.5")


class Day(enum.Enum):
    FIRST = datetime.date(2026, 1, 1)


class Corner(enum.Enum):
    ORIGIN = (0, 0)
    HALF = 0.5


@dataclasses.dataclass
class RatedPrice:
    rate: Rate
    price: Price


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Point | Struct, "more than one dict-like type"),
        (datetime.date | str, "more than one str-like type"),
        (Custom, "msgspec cannot decode Custom from JSON"),
        (list[Custom], "msgspec cannot decode Custom from JSON"),
        (bytes, "bytes are not JSON"),
        (RatedBytes, "bytes are not JSON"),
        (Price, "Enums must contain either all str or all int values"),
        (Day, "Enums must contain either all str or all int values"),
        (Corner, "Enums must contain either all str or all int values"),
        (RatedPrice, "Enums must contain either all str or all int values - type `<enum 'Price'>`"),
        ("Missing", "name 'Missing' is not defined"),
        ("list[", "SyntaxError"),
    ],
)
def test_j4_annotation_that_cannot_be_decoded_is_refused(annotation, reason):
    def define():
        with cloaca.WorkflowBuilder("values", input={"value": object}):
            cloaca.task(id="second")(passing(annotation))

    with pytest.raises(cloaca.TaskValidationError, match="parameter 'value'") as caught:
        define()
    assert "task 'second'" in str(caught.value)
    assert reason in str(caught.value)


def test_j4_result_with_an_unknown_annotation_is_plain_json():
    def custom(n: int):
        return {"a": n}

    custom.__annotations__["return"] = "Missing"
    with cloaca.WorkflowBuilder("values"):
        cloaca.task(custom)
    with VirtualRunner() as runner:
        assert runner.execute("values", {"n": 1}).of("custom") == {"a": 1}


def test_j4_decoders_are_made_once_for_a_function():
    signature = read_signature(passing(list[Point]), "x")
    assert signature.decoder("value") is signature.decoder("value")


def test_j4_local_classes_are_found():
    @dataclasses.dataclass
    class Local:
        x: int

    def first(n: "int") -> "Local":
        return Local(n)

    def second(first: "Local") -> "int":
        return first.x

    with cloaca.WorkflowBuilder("values", output="second"):
        cloaca.task(first)
        cloaca.task(second)
    with VirtualRunner() as runner:
        assert runner.execute("values", {"n": 3}).output == 3


def test_j2_unknown_annotations_of_context_functions_are_ignored():
    def load(context: "Missing", limit: "AlsoMissing" = 3, *, handle: "Other"):  # noqa: F821
        context["limit"] = limit

    with cloaca.WorkflowBuilder("values"):
        cloaca.task(load)
    with VirtualRunner() as runner:
        assert runner.execute("values").final_context.to_dict() == {"limit": 3}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is new in Python 3.12")
def test_j4_alias_from_a_type_statement_is_decoded():
    names: dict[str, object] = {}
    exec(
        "type Numbers = list[int]\ndef work[N](value: Numbers, n: N) -> Numbers:\n    return value",
        names,
    )
    function: typing.Any = names["work"]
    assert run_task(function, value=[1], n=2)["work"] == [1]
    with pytest.raises(cloaca.TaskInputError):
        run_task(function, value=["x"], n=2)


def test_j4_msgspec_and_pydantic_are_imported_only_when_needed(script):
    process = script(
        """
        import sys
        import cloaca

        with cloaca.WorkflowBuilder("plain"):

            @cloaca.task
            def rows():
                return [1, 2]

            @cloaca.task
            def total(rows, context=None):
                return sum(rows)

            @cloaca.task(dependencies=[total])
            def report(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
                context["seen"] = context["total"]

        with cloaca.DefaultRunner(":memory:") as runner:
            print(runner.execute("plain").final_context.to_dict())
        print({"msgspec", "pydantic"} & set(sys.modules))

        with cloaca.WorkflowBuilder("typed"):

            @cloaca.task
            def rows() -> list[int]:
                return [1, 2]

            @cloaca.task
            def total(rows: list[int]) -> int:
                return sum(rows)

        print({"msgspec", "pydantic"} & set(sys.modules))
        """
    )
    out, err = process.communicate(timeout=60)
    assert (out.splitlines(), err) == (
        ["{'rows': [1, 2], 'total': 3, 'seen': 3}", "set()", "{'msgspec'}"],
        "",
    )


class Named(pydantic.BaseModel):
    name: str
    price: float


class Table(pydantic.BaseModel):
    rows: list[Named]


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (Named, {}, "`value.name`: Field required; `value.price`: Field required"),
        (
            Table,
            {"rows": [{"name": "a"}, {"price": 1}]},
            "`value.rows[0].price`: Field required; `value.rows[1].name`: Field required",
        ),
        (list[Named], [{}], "`value[0].name`: Field required; `value[0].price`: Field required"),
    ],
)
def test_j9_error_has_the_full_path_of_each_wrong_field(annotation, value, text):
    with pytest.raises(cloaca.TaskInputError) as caught:
        run_task(passing(annotation), value=value)
    assert caught.value.message.endswith(text)


def returning(annotation):
    def work(n: int):
        return n

    work.__annotations__["return"] = annotation
    return work


def test_j4_return_annotation_of_a_function_with_context_is_not_checked():
    def work(context) -> Custom:
        context["a"] = 1

    with cloaca.WorkflowBuilder("values"):
        cloaca.task(work)
    with VirtualRunner() as runner:
        assert runner.execute("values").final_context.to_dict() == {"a": 1}


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (Point | PartialPoint, "more than one dataclass or attrs type"),
        (datetime.date | str, "more than one str-like type"),
        (Custom, "msgspec cannot decode Custom from JSON"),
        (list[Custom], "msgspec cannot decode Custom from JSON"),
        (bytes, "bytes are not JSON"),
        ("list[", "SyntaxError"),
    ],
)
def test_j4_return_annotation_that_cannot_be_decoded_is_refused(annotation, reason):
    def define():
        with cloaca.WorkflowBuilder("values"):
            cloaca.task(returning(annotation))

    with pytest.raises(
        cloaca.TaskValidationError, match=r"task 'work': the return annot"
    ) as caught:
        define()
    assert reason in str(caught.value)
    assert "object for plain JSON" in caught.value.hint


@pytest.mark.parametrize("annotation", [typing.NoReturn, typing.Never, typing.Any, object, T])
def test_j4_result_is_plain_json_if_its_annotation_names_no_type(annotation):
    with cloaca.WorkflowBuilder("values"):
        cloaca.task(returning(annotation))
    with VirtualRunner() as runner:
        assert runner.execute("values", {"n": 1}).of("work") == 1
