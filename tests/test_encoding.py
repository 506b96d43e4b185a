"""The encoding of Python values as JSON (semantics B1)."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import pathlib
import re
import types
import uuid

import pytest

import cloaca
from cloaca._values.encoding import encode


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    ANN = "ann"


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


class Attrs:
    """A class with the attributes that attrs sets, so that the tests do not depend on attrs."""

    __attrs_attrs__ = (types.SimpleNamespace(name="a"), types.SimpleNamespace(name="b"))
    a = 1
    b = Colour.RED


class Model:
    """A class with the parts of a pydantic model that the encoder uses."""

    model_fields = ()

    def model_dump(self, **options: object) -> dict[str, object]:
        return options


class Struct:
    """A class with the parts of a msgspec struct that the encoder uses."""

    __struct_fields__ = ("a_b",)
    __struct_encode_fields__ = ("aB",)
    a_b = (1,)


Pair = collections.namedtuple("Pair", "left right")
ZONE = datetime.timezone(datetime.timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "decoded"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Name.ANN, "ann"),
        (Point(1, {"b", "a"}), {"x": 1, "tags": ["a", "b"]}),
        (Attrs(), {"a": 1, "b": "red"}),
        (
            Model(),
            {"mode": "json", "by_alias": False, "round_trip": True, "warnings": False},
        ),
        (Struct(), {"aB": [1]}),
        (Pair(1, 2), [1, 2]),
        ((1, (2,)), [1, [2]]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ({1, "a"}, [1, "a"]),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, 6, ZONE), "2026-01-02T03:04:05.000006+02:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(minutes=1.5), 90.0),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (types.MappingProxyType({"a": (1,)}), {"a": [1]}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (cloaca.Context({"inner": 1}), {"inner": 1}),
        ({"deep": [{"colour": Colour.RED}]}, {"deep": [{"colour": "red"}]}),
    ],
)
def test_b1_values_are_encoded_by_documented_rules(value, decoded):
    context = cloaca.Context({"k": value})
    assert context["k"] == decoded
    assert type(context["k"]) is type(decoded)


@dataclasses.dataclass
class Line:
    start: tuple[int, int]
    end: dict[str, float]
    name: object = None


@dataclasses.dataclass(slots=True)
class Labelled(Line):
    parts: list[object] = dataclasses.field(default_factory=list)
    key: str = dataclasses.field(default="k", repr=False, compare=False)


@pytest.mark.parametrize(
    "value",
    [
        Line((1, 2), {"x": 0.1}, 'a "quoted" name\n'),
        Labelled((1, 2), {}, parts=[Line((0, 0), {}), None, True]),
        Line((1, 2), {}, Point(1, {"b", "a"})),
        [Line((1, 2), {}), Labelled((1, 2), {}, Level.HIGH)],
    ],
)
def test_b1_dataclasses_are_encoded_alike_by_rust_and_python(value):
    # The first call registers the dataclasses with the Rust module. From then on, Rust itself
    # encodes their objects if all parts are plain values.
    expected = encode("key", value)
    context = cloaca.Context({"key": value})
    assert context._raw("key") == expected


def test_b1_dataclass_with_a_part_that_is_not_json_is_refused():
    context = cloaca.Context({"line": Line((1, 2), {})})
    with pytest.raises(TypeError, match="context key 'line': a value of type 'bytes' is not JSON"):
        context["line"] = Line((1, 2), {}, b"")
    with pytest.raises(ValueError, match="NaN"):
        context["line"] = Line((1, 2), {"x": float("nan")})
    broken = Line((1, 2), {})
    del broken.start
    with pytest.raises(AttributeError, match="start"):
        context["line"] = broken
    assert context["line"]["start"] == [1, 2]


def test_b1_encoded_text_is_compact_and_unicode():
    assert encode("k", {"ä": (1, None, True), "b": 1.5}) == '{"ä":[1,null,true],"b":1.5}'


def circle():
    value: list[object] = []
    value.append(value)
    return value


def deep(levels):
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@dataclasses.dataclass
class Node:
    next: object


def chain(levels):
    value: object = None
    for _ in range(levels):
        value = Node(value)
    return value


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (b"x", TypeError, "'bytes'.*base64"),
        ([bytearray(b"x")], TypeError, "bytearray"),
        (object(), TypeError, "'object'"),
        (1j, TypeError, "complex"),
        (print, TypeError, "builtin_function_or_method"),
        (Point, TypeError, "'type'"),
        (Colour, TypeError, "enum"),
        (range(3), TypeError, "range"),
        ({"a": {1: 2}}, TypeError, "key 1 .*'int'"),
        ([{None: 2}], TypeError, "key None"),
        ({("a",): 1}, TypeError, "tuple"),
        (float("nan"), ValueError, "NaN"),
        (decimal.Decimal("NaN"), ValueError, "NaN"),
        ([decimal.Decimal("-Infinity")], ValueError, "infinities"),
        ({"a": [float("-inf")]}, ValueError, "infinities"),
        (Point(float("nan"), set()), ValueError, "NaN"),
        ("\ud800", ValueError, "surrogate"),
        ([{"\udfff": 1}], ValueError, "surrogate"),
        (circle(), ValueError, "contains itself"),
        (deep(513), ValueError, "deeper than 512"),
        (deep(100_000), ValueError, "deeper than 512"),
        (chain(513), ValueError, "deeper than 512"),
    ],
)
def test_b1_value_that_is_not_json_is_refused_when_set(value, error, text):
    context = cloaca.Context()
    with pytest.raises(error, match=f"(?s)price.*{text}"):
        context["price"] = value
    assert len(context) == 0


@pytest.mark.parametrize("levels", [100, 512])
def test_b1_512_levels_round_trip(levels):
    context = cloaca.Context({"k": deep(levels)})
    assert context["k"] == deep(levels)
    assert cloaca.Context.from_json(context.to_json()) == context


@pytest.mark.parametrize("levels", [513, 100_000])
@pytest.mark.parametrize(("start", "end"), [("[", "]"), ('{"a":', "}")])
def test_b1_error_for_too_deep_json_names_key_and_limit(levels, start, end):
    text = f'{{"price":{start * levels}1{end * levels}}}'
    with pytest.raises(ValueError, match="key 'price' is nested deeper than 512 levels"):
        cloaca.Context.from_json(text)


def test_b1_update_with_a_refused_value_changes_nothing():
    context = cloaca.Context()
    with pytest.raises(TypeError):
        context.update_from_dict({"good": 1, "bad": b""})
    assert len(context) == 0


class DataFrame:
    """A class like pandas' `DataFrame`, so that the tests do not depend on pandas."""

    def to_dict(self, orient="dict"):
        return {0: orient}


class PolarsFrame(DataFrame):
    def to_dicts(self):
        return []


PolarsFrame.__name__ = "DataFrame"


class NaT(datetime.datetime):
    """A class like pandas' `NaT`: a datetime that does not equal itself."""

    def __ne__(self, other):
        return True


@pytest.mark.parametrize(
    ("value", "error", "advice"),
    [
        (DataFrame(), TypeError, 'convert it with .to_dict("records")'),
        (PolarsFrame(), TypeError, "convert it with .to_dicts()"),
        (pathlib.Path("a"), TypeError, "convert it with str(path)"),
        (NaT(2026, 1, 1), ValueError, "NaT is not JSON; store None instead"),
        ({1: "a"}, TypeError, "keys of JSON objects are strings; convert it with str(key)"),
    ],
)
def test_refused_values_come_with_a_hint(value, error, advice):
    with pytest.raises(error, match=re.escape(advice)):
        cloaca.Context({"key": value})
    with pytest.raises(TypeError, match=r"are strings; convert it to a string"):
        cloaca.Context({"key": {(1, 2): 3}})
