"""`cloaca._core.Context` keeps JSON values unchanged and behaves like a dict."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloaca import _core
from cloaca._values.exceptions import (
    ContextError,
)

Context = _core.Context


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]))
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(values)
@example(-0.0)
@example(1e16)
@example(5e-324)
@example(1.7976931348623157e308)
@example(2**63)
@example(-(2**63) - 1)
@example(["\u2028", "\ud7ff\ue000", "\x00\x1f\x7f", '"\\/\b\f\n\r\t', "\U0001f600"])
def test_stored_value_is_the_same_as_after_a_json_round_trip(value: object) -> None:
    context = Context({"k": value})
    assert_same(context["k"], json.loads(json.dumps(value)))
    assert_same(json.loads(context.to_json())["k"], json.loads(json.dumps(value)))


@given(values, st.booleans(), st.sampled_from([None, 2, "\t"]))
def test_json_text_is_parsed_like_pythons_json_module(
    value: object, ascii_only: bool, indent: int | str | None
) -> None:
    text = json.dumps({"k": value}, ensure_ascii=ascii_only, indent=indent)
    assert_same(Context.from_json(text)["k"], value)


@pytest.mark.parametrize(
    "text",
    [
        "1.10",
        "-0",
        "1E5",
        "1e400",
        "-1e-400",
        '"\\ud83d\\ude00"',
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\u00e9\\/"',
        "[]",
        "{}",
        "[[],{}]",
        '{"a":1,"b":2,"a":3}',
        '{"\\u0061":1}',
        f"[{'[' * 300}{']' * 300}]",
        "9" * 19,
        "-" + "9" * 19,
        '{"' + "k" * 50 + '":1}',
    ],
)
def test_unusual_json_is_parsed_like_pythons_json_module(text: str) -> None:
    assert_same(Context.from_json(f'{{"k":{text}}}')["k"], json.loads(text))


def assert_same(found: object, expected: object) -> None:
    """Asserts that two values are equal, also in type, sign of zero and order of keys."""
    assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (math.nan, ValueError),
        ([math.inf], ValueError),
        (b"bytes", TypeError),
        ({"a": object()}, TypeError),
        ({1: "a"}, TypeError),
        ("\ud800", ValueError),
        ([10**5000], ValueError),
    ],
)
def test_values_that_are_not_json_are_refused_when_set(
    value: object, error: type[Exception]
) -> None:
    context = Context({"k": 1})
    with pytest.raises(error, match="'k'"):
        context["k"] = value
    with pytest.raises(error, match="'k'"):
        Context({"k": value})
    assert context == {"k": 1}


def test_a_value_that_contains_itself_is_refused() -> None:
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match=r"'k'.*contains itself"):
        Context({"k": circle})


def test_depth_limit_is_the_same_for_plain_and_converted_values() -> None:
    def nested(depth: int, leaf: object) -> object:
        for _ in range(depth):
            leaf = [leaf]
        return leaf

    def deepest(leaf: object) -> int:
        return next(depth for depth in range(500, 520) if refuses(nested(depth + 1, leaf)))

    assert deepest([]) == deepest({}) == deepest(()) == deepest(frozenset())


def refuses(value: object) -> bool:
    try:
        Context({"k": value})
    except ValueError:
        return True
    return False


def test_subclasses_tuples_and_sets_are_encoded() -> None:
    class Words(list[str]):
        pass

    class Table(dict[str, int]):
        pass

    context = Context({"a": Words(["x"]), "b": [Table(y=1)], "c": {"z": (1, {2})}})
    assert context.to_json() == '{"a":["x"],"b":[{"y":1}],"c":{"z":[1,[2]]}}'


def test_an_update_with_an_invalid_value_changes_nothing() -> None:
    context = Context({"a": 1})
    with pytest.raises(TypeError):
        context.update({"a": 2, "b": object()})
    assert context == {"a": 1}


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_key_that_is_not_a_string_is_a_type_error(key: Any) -> None:
    context = Context()
    for call in (
        lambda: context[key],
        lambda: context.get(key),
        lambda: context.__setitem__(key, 1),
        lambda: context.__delitem__(key),
        lambda: Context({key: 1}),
    ):
        with pytest.raises(TypeError, match="context keys are strings"):
            call()
    assert key not in context


def test_error_of_get_required_names_the_key_and_a_similar_key() -> None:
    with pytest.raises(ContextError, match="no key 'rwos'") as raised:
        Context({"rows": 1}).get_required("rwos")
    assert raised.value.code == "context_invalid"
    assert raised.value.hint == "did you mean 'rows'?"
    assert Context({"none": None}).get_required("none") is None


def test_update_with_a_key_and_a_value_needs_a_present_key() -> None:
    context = Context({"a": 1})
    context.update("a", 2)
    assert context == {"a": 2}
    context.update(key="a", value=3)
    assert context == {"a": 3}
    with pytest.raises(KeyError):
        context.update("b", 1)
    assert context == {"a": 3}


def test_update_with_a_mapping_or_pairs_works_like_dict() -> None:
    context = Context({"a": 1})
    context.update({"b": 2}, c=3)
    context.update([("d", 4)])
    context.update(Context({"e": 5}))
    context.update()
    assert context.to_dict() == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    with pytest.raises(TypeError):
        context.update("a", 1, 2)  # type: ignore[call-overload]


def test_contexts_with_equal_items_are_equal() -> None:
    context = Context({"a": 1, "b": [1.5]})
    assert context == Context({"b": [1.5], "a": 1})
    assert context == {"b": [1.5], "a": 1.0}
    assert context != {"a": 1}
    assert context != Context({"a": 1, "b": []})
    assert context != 1
    assert Context({"a": 1.0}) == Context({"a": 1})
    with pytest.raises(TypeError, match="unhashable"):
        hash(context)


def test_copies_and_pickles_are_independent() -> None:
    context = Context({"a": [1], "n": 2**70})
    for other in (
        context.copy(),
        copy.copy(context),
        copy.deepcopy(context),
        pickle.loads(pickle.dumps(context)),
    ):
        assert other == context
        assert list(other) == list(context)
        other["a"] = 2
        assert context["a"] == [1]


def test_views_show_later_changes_of_the_context() -> None:
    context = Context({"a": 1})
    keys, items, all_values = context.keys(), context.items(), context.values()
    context["b"] = 2
    assert list(keys) == ["a", "b"]
    assert list(items) == [("a", 1), ("b", 2)]
    assert list(all_values) == [1, 2]
    assert keys & {"a", "c"} == {"a"}
    assert list(reversed(context)) == ["b", "a"]


def test_text_that_is_not_an_object_is_refused() -> None:
    for text in ("[]", "", "{", "null", '{"a":NaN}', "{'a':1}"):
        with pytest.raises(ValueError, match="JSON object"):
            Context.from_json(text)


def test_insert_refuses_a_present_key_and_delete_an_absent_one() -> None:
    context = Context({"a": 1})
    with pytest.raises(ValueError, match="'a'"):
        context.insert("a", 2)
    context.insert("b", 2)
    context.delete("a")
    with pytest.raises(KeyError):
        context.delete("a")
    assert context.remove("b") == 2
    assert context.remove("b") is None
    with pytest.raises(KeyError):
        context.pop("b")
    with pytest.raises(KeyError):
        context.popitem()
    assert context.pop("b", 7) == 7
    assert context.setdefault("c", [1]) == [1]
    assert context.setdefault("c") == [1]


keys = st.sampled_from("abcdef")
steps = st.one_of(
    st.tuples(st.just("set"), keys, st.integers()),
    st.tuples(st.just("remove"), keys),
    st.tuples(st.just("popitem")),
    st.tuples(st.just("clear")),
    st.tuples(st.just("setdefault"), keys, st.integers()),
    st.tuples(st.just("replace"), st.dictionaries(keys, st.integers())),
)


@given(st.dictionaries(keys, st.integers()), st.lists(steps))
def test_context_behaves_like_a_dict(start: dict[str, int], history: list[tuple[Any, ...]]) -> None:
    context, model = Context(start), dict(start)
    for step, *rest in history:
        if step == "set":
            context[rest[0]] = model[rest[0]] = rest[1]
        elif step == "remove":
            assert context.remove(rest[0]) == model.pop(rest[0], None)
        elif step == "popitem" and model:
            assert context.popitem() == model.popitem()
        elif step == "clear":
            context.clear()
            model.clear()
        elif step == "setdefault":
            assert context.setdefault(*rest) == model.setdefault(*rest)
        elif step == "replace":
            context._replace_with(Context(rest[0]))
            assert context == rest[0]
            model = context.to_dict()
        assert list(context.items()) == list(model.items())
        assert len(context) == len(model)


def test_union_of_contexts_and_mappings_works_as_for_dicts() -> None:
    context = Context({"a": 1, "b": 2})
    assert context | {"b": 3} == {"a": 1, "b": 3}
    assert {"a": 0, "c": 4} | context == {"a": 1, "c": 4, "b": 2}
    assert isinstance({"c": 4} | context, Context)
    same = context
    same |= {"d": 5}
    assert same is context
    assert context == {"a": 1, "b": 2, "d": 5}
    with pytest.raises(TypeError):
        context | 3  # type: ignore[operator]
