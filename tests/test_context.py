"""The context: a mutable mapping of JSON values (semantics B1, B3)."""

from __future__ import annotations

import contextlib
import copy
import datetime
import decimal
import pickle
import sqlite3
import threading
import traceback
from collections.abc import MutableMapping

import pytest

import cloaca


def test_context_supports_the_whole_mutable_mapping_protocol():
    context = cloaca.Context({"a": 1, "b": [1, 2]})
    assert isinstance(context, MutableMapping)
    assert list(context) == ["a", "b"]
    assert len(context) == 2
    assert "a" in context
    assert 1 not in context
    assert list(context.keys()) == ["a", "b"]
    assert list(context.values()) == [1, [1, 2]]
    assert list(context.items()) == [("a", 1), ("b", [1, 2])]
    assert context == {"a": 1, "b": [1, 2]}
    assert context == cloaca.Context({"b": [1, 2], "a": 1})
    assert context != {"a": 1}
    assert context.pop("a") == 1
    assert context.pop("a", 7) == 7
    with pytest.raises(KeyError):
        context.pop("a")
    assert context.setdefault("c", 3) == 3
    assert context.setdefault("c", 4) == 3
    assert repr(context) == "Context({'b': [1, 2], 'c': 3})"


def test_methods_treat_present_and_absent_keys_differently():
    context = cloaca.Context()
    assert context.get("k") is None
    assert context.get("k", 5) == 5
    context.insert("k", 1)
    with pytest.raises(ValueError, match="k"):
        context.insert("k", 2)
    context.update("k", 3)
    with pytest.raises(KeyError, match="absent"):
        context.update("absent", 1)
    context.set("k", 4)
    context.set("l", 5)
    assert context.to_dict() == {"k": 4, "l": 5}
    assert context.remove("k") == 4
    assert context.remove("k") is None
    context.delete("l")
    with pytest.raises(KeyError):
        context.delete("l")
    with pytest.raises(KeyError):
        context["l"]


def test_update_accepts_the_arguments_of_dict_update():
    context = cloaca.Context()
    context.update({"a": 1})
    context.update([("b", 2)], c=3)
    context.update_from_dict({"d": 4})
    assert context.data == {"a": 1, "b": 2, "c": 3, "d": 4}


def test_key_with_the_value_none_is_present():
    context = cloaca.Context({"n": None})
    assert "n" in context
    assert context.get("n", 5) is None
    assert context.get_required("n") is None


@pytest.mark.parametrize(
    "miss",
    [
        lambda context: context["row"],
        lambda context: context.pop("row"),
        lambda context: context.update("row", 1),
        lambda context: context.delete("row"),
        lambda context: context.__delitem__("row"),
    ],
)
def test_key_error_names_the_nearest_key(miss):
    with pytest.raises(KeyError) as caught:
        miss(cloaca.Context({"rows": 1, "day": 2}))
    expected = "the context has no key 'row'; did you mean 'rows'? It has: rows, day"
    assert str(caught.value) == expected
    assert type(caught.value) is KeyError
    assert caught.value.args == ("row",)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.args, str(again)) == (("row",), expected)
    shown = "".join(traceback.format_exception_only(caught.value))
    assert shown == f"KeyError: {expected}\n"


def test_key_error_names_the_parallel_task_that_writes_the_key(runner):
    with cloaca.WorkflowBuilder("forgotten"):

        @cloaca.task
        def extract(context):
            context["rows"] = [1]

        @cloaca.task(retry_attempts=1)
        def load(context):
            written.wait(30)
            return {"total": sum(context["rows"])}

        @cloaca.task(dependencies=[extract], on_success=lambda *_: written.set())
        def after(context):
            pass

    written = threading.Event()
    error = runner.execute("forgotten").tasks["load"].error
    assert error.type == "KeyError"
    assert error.message == (
        "the context has no key 'rows'; it is empty\nhint: 'rows' is written by 'extract', "
        "which is not an ancestor of this task: add it to dependencies"
    )


def test_get_required_names_the_nearest_key():
    with pytest.raises(cloaca.ContextError, match="rowz") as caught:
        cloaca.Context({"rows": 1}).get_required("rowz")
    assert caught.value.code == "context_invalid"
    assert caught.value.hint == "did you mean 'rows'?"


def test_b3_equal_results_of_parallel_tasks_are_all_kept(runner):
    with cloaca.WorkflowBuilder("chord"):
        header = [
            cloaca.task(id=f"add_{index}")(lambda context: {"numbers": [2 + 2]})
            for index in range(10)
        ]

        @cloaca.task(dependencies=header)
        def total(context):
            context["total"] = sum(context["numbers"])

    assert runner.execute("chord").final_context["total"] == 40


@pytest.mark.parametrize(
    "value",
    [2**200, -(2**70), 0.1, 1e300, -0.0, "", "é\u2028\x00", [], {}, [[{"a": None}]], True],
)
def test_b1_plain_values_round_trip(value):
    context = cloaca.Context({"v": value})
    again = cloaca.Context.from_json(context.to_json())["v"]
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("text", ["", "[]", "1", '{"a":NaN}', "{'a':1}", "null"])
def test_from_json_refuses_all_but_objects(text):
    with pytest.raises(ValueError, match=r"."):
        cloaca.Context.from_json(text)


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_b1_key_that_is_not_a_string_is_refused(key):
    with pytest.raises(TypeError):
        cloaca.Context()[key] = 1
    with pytest.raises(TypeError):
        cloaca.Context({key: 1})


@pytest.mark.parametrize("data", ["day", b"day", 5, print])
def test_value_that_is_not_a_mapping_is_refused_with_a_hint(data):
    for refuse in (cloaca.Context, cloaca.Context().update, cloaca.Context().update_from_dict):
        with pytest.raises(
            TypeError, match=f"mapping from names to values.*'{type(data).__name__}"
        ):
            refuse(data)


@pytest.mark.parametrize("given", [[1], (1,), {1}, "text", b"text"])
def test_input_that_is_not_a_mapping_is_refused(runner, given):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="only")(lambda context: None)
    kind = type(given).__name__
    with pytest.raises(
        TypeError, match=f"the context must be a mapping or a Context, not {kind}; name"
    ):
        runner.execute("w", given)


def test_copies_are_independent():
    context = cloaca.Context({"a": 1})
    for twin in (context.copy(), copy.copy(context), pickle.loads(pickle.dumps(context))):
        assert twin == context
        twin["a"] = 2
        assert context["a"] == 1


def nested_text(levels, leaf):
    return '{"deep":' + '{"a":' * levels + leaf + "}" * levels + "}"


def test_b3_values_at_the_depth_limit_merge(runner):
    with cloaca.WorkflowBuilder("deepest"):

        @cloaca.task()
        def left(context):
            return cloaca.Context.from_json(nested_text(511, "[1]"))

        @cloaca.task()
        def right(context):
            return cloaca.Context.from_json(nested_text(511, "[2]"))

        @cloaca.task(dependencies=[left, right])
        def both(context):
            context["whole"] = context["deep"]

    result = runner.execute("deepest")
    assert result.status == "Completed", result.error_message
    merged = cloaca.Context.from_json(nested_text(511, "[1,2]"))
    assert result.final_context["deep"] == merged["deep"]
    assert result.final_context["whole"] == merged["deep"]


def test_b1_result_deeper_than_the_limit_fails_the_task(runner):
    with cloaca.WorkflowBuilder("too_deep"):

        @cloaca.task(retry_attempts=1)
        def read(context):
            return cloaca.Context.from_json(nested_text(100_000, "1"))

    result = runner.execute("too_deep")
    assert result.status == "Failed"
    assert "key 'deep' is nested deeper than 512 levels" in result.error_message


def test_b1_stored_input_deeper_than_the_limit_raises_an_error(tmp_path):
    path = tmp_path / "x.db"
    with cloaca.WorkflowBuilder("stored"):
        cloaca.task(id="only")(lambda context: None)
    with cloaca.DefaultRunner(f"sqlite:///{path}") as runner:
        execution_id = runner.execute("stored", {"deep": 1}).execution_id
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE cloacina_inputs SET input = ?", (nested_text(100_000, "1"),))
    with cloaca.DefaultRunner(f"sqlite:///{path}") as runner:
        with pytest.raises(cloaca.DatabaseError, match=r"cannot read.*input"):
            runner.get_execution(execution_id)
        assert runner.execute("stored").status == "Completed"


def test_b1_error_for_an_attribute_lost_in_json_has_a_hint(runner):
    values = {
        "day": datetime.date(2026, 1, 1),
        "parts": {1, 2},
        "amount": decimal.Decimal("1.5"),
        "order": {"number": 1},
        "plain": "x",
    }
    reads = {
        "day": (lambda context: context["day"].year, "datetime.fromisoformat(text)"),
        "parts": (lambda context: context["parts"].add(3), "set(value)"),
        "amount": (lambda context: context["amount"].quantize, "Decimal(text)"),
        "order": (lambda context: context["order"].number, "value['number']"),
        "context": (lambda context: context.number, "context['number']"),
        "plain": (lambda context: context["plain"].unknown, None),
    }
    with cloaca.WorkflowBuilder("w"):
        for id, (read, _) in reads.items():
            cloaca.task(id=id, retry_attempts=1)(read)
    result = runner.execute("w", values)
    for id, (_, hint) in reads.items():
        error = result.tasks[id].error
        assert error.type == "AttributeError"
        if hint is None:
            assert "hint:" not in error.traceback
        else:
            assert hint in error.traceback.splitlines()[-1]
