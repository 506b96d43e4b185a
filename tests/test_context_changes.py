"""Tasks can change lists and dicts of a context in place (semantics B8)."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cloaca
from cloaca.testing import run_task

# JSON texts that `json.dumps` does not reproduce exactly.
UNUSUAL = [
    "[1.10]",
    "[-0]",
    "[1E5,1e400,-1e-400]",
    '["\\ud83d\\ude00","\\u00e9\\/"]',
    '["\\ud800"]',
    '{"a":1,"b":2,"a":3}',
    '{"\\u0061":[1]}',
    f"[{'[' * 300}{']' * 300}]",
    f"[{'9' * 40},-{'9' * 19}]",
    '[true,false,null,[],{},""]',
]


def changed_in_task(change, value: Any) -> Any:
    """Returns the value that a task reads after an earlier task has changed it in place."""

    def apply(context):
        change(context["key"])

    with cloaca.WorkflowBuilder("changing"):
        cloaca.task(id="change")(apply)

        @cloaca.task(dependencies=["change"])
        def read(context):
            context["seen"] = context["key"]

    with cloaca.DefaultRunner(":memory:") as runner:
        result = runner.execute("changing", {"key": value})
    result.raise_for_status()
    return result.final_context["seen"]


@pytest.mark.parametrize(
    ("value", "change", "expected"),
    [
        ([], lambda rows: rows.append(1), [1]),
        ([1, 2], lambda rows: rows.pop(0), [2]),
        ([3, 1, 2], lambda rows: rows.sort(), [1, 2, 3]),
        ({}, lambda seen: seen.update(x=1), {"x": 1}),
        ({"a": {"b": [1]}}, lambda seen: seen["a"]["b"].append(2), {"a": {"b": [1, 2]}}),
        ({"a": 1, "b": 2}, lambda seen: seen.pop("b"), {"a": 1}),
        ([True], lambda rows: rows.__setitem__(0, 1), [1]),
        ([1], lambda rows: rows.__setitem__(0, 1.0), [1.0]),
    ],
)
def test_b8_a_change_in_place_is_seen_by_later_tasks(value, change, expected):
    seen = changed_in_task(change, value)
    assert repr(seen) == repr(expected)


def final_of_reader_beside_writer(text: str, read) -> str:
    """Returns the final value of a key that one task sets and a parallel task reads."""

    def read_key(context):
        read(context)

    with cloaca.WorkflowBuilder("reading"):

        @cloaca.task
        def write(context):
            context["key"] = "written"

        cloaca.task(id="read")(read_key)

    with cloaca.DefaultRunner(":memory:") as runner:
        result = runner.execute("reading", cloaca.Context.from_json(f'{{"key":{text}}}'))
    result.raise_for_status()
    return result.final_context["key"]


@pytest.mark.parametrize("text", UNUSUAL)
def test_b8_reading_alone_writes_nothing(text):
    # The reader is defined after the writer, so if the reader wrote a value, that value would win.
    assert final_of_reader_beside_writer(text, lambda context: context["key"]) == "written"


@pytest.mark.parametrize("text", UNUSUAL)
def test_b8_reading_alone_keeps_the_text(text):
    context = cloaca.Context.from_json(f'{{"key":{text}}}')
    before = context.to_json()
    for read in (context.get, context.get_required, context.setdefault, context.__getitem__):
        read("key")
    list(context.values())
    assert context.to_json() == before


def test_b8_new_key_order_or_equal_tuple_is_not_a_change():
    text = '{"a":1,"list":[1,2],"b":2}'
    context = cloaca.Context.from_json(f'{{"key":{text}}}')
    context["key"]["a"] = context["key"].pop("a")
    assert context.to_json() == f'{{"key":{text}}}'
    context["key"]["list"] = (1, 2)
    assert json.loads(context.to_json()) == {"key": json.loads(text)}
    rows = cloaca.Context.from_json('{"rows":[[1,2]]}')
    rows["rows"][0] = (1, 2)
    assert rows.to_json() == '{"rows":[[1,2]]}'


def test_b8_every_operation_sees_the_change():
    def changed() -> cloaca.Context:
        context = cloaca.Context({"rows": [1], "other": {"a": []}})
        context["rows"].append(2)
        context["other"]["a"].append(3)
        return context

    expected = {"rows": [1, 2], "other": {"a": [3]}}
    assert changed().to_dict() == expected
    assert changed().data == expected
    assert changed() == expected
    assert changed() == cloaca.Context(expected)
    assert changed() != cloaca.Context({"rows": [1], "other": {"a": []}})
    assert json.loads(changed().to_json()) == expected
    assert repr(changed()) == f"Context({expected!r})"
    assert list(changed().values()) == list(expected.values())
    assert dict(changed().items()) == expected
    assert changed().get("rows") == [1, 2]
    assert changed().get_required("rows") == [1, 2]
    assert changed().setdefault("rows", []) == [1, 2]
    assert changed().pop("rows") == [1, 2]
    assert changed().remove("rows") == [1, 2]
    assert changed().popitem() == ("other", {"a": [3]})
    assert (changed() | {}) == expected
    assert ({} | changed()) == expected
    for twin in (
        changed().copy(),
        copy.copy(changed()),
        copy.deepcopy(changed()),
        pickle.loads(pickle.dumps(changed())),
    ):
        assert twin == expected


def test_b8_reads_return_the_same_object_and_copies_are_separate():
    context = cloaca.Context({"rows": [[1]], "text": "t"})
    rows = context["rows"]
    assert context["rows"] is rows
    assert next(iter(context.values())) is rows
    context.to_dict()["rows"].append(2)
    context.copy()["rows"].append(2)
    assert context["rows"] == [[1]]
    assert context.setdefault("new", []) is context["new"]
    context.setdefault("new", []).append(1)
    assert context["new"] == [1]


def test_b8_a_later_set_wins():
    context = cloaca.Context({"rows": [1]})
    rows = context["rows"]
    rows.append(2)
    context["rows"] = ["set"]
    rows.append(3)
    assert context == {"rows": ["set"]}
    context["rows"].append("changed")
    context.update({"rows": []})
    context.update_from_dict(cloaca.Context({"other": []}))
    assert context == {"rows": [], "other": []}
    context["rows"].append(1)
    del context["rows"]
    assert "rows" not in context
    context["rows"] = [9]
    assert context["rows"] == [9]


def test_b8_object_that_is_set_again_still_stores_its_changes():
    context = cloaca.Context({"rows": [1]})
    rows = context["rows"]
    context["rows"] += [2]
    assert context["rows"] is rows
    rows.append(3)
    assert context.to_json() == '{"rows":[1,2,3]}'


def test_b8_two_keys_with_one_object_are_independent():
    context = cloaca.Context({"a": [1]})
    context["b"] = context["a"]
    context["a"].append(2)
    context["b"].append(3)
    assert context == {"a": [1, 2], "b": [1, 3]}


def test_b8_part_without_json_form_is_a_type_error():
    context = cloaca.Context({"rows": [], "n": 1})
    context["rows"].append(object())
    for use in (
        context.to_json,
        context.to_dict,
        context.copy,
        lambda: pickle.dumps(context),
        lambda: context | {},
        lambda: cloaca.Context().update(context),
    ):
        with pytest.raises(TypeError, match="context key 'rows': a value of type 'object'"):
            use()
    assert "object object" in repr(context)
    assert context["n"] == 1
    context["rows"] = []
    assert context.to_json() == '{"rows":[],"n":1}'


def test_b8_part_without_json_form_fails_the_task(runner):
    with cloaca.WorkflowBuilder("broken"):

        @cloaca.task(retry_attempts=1)
        def plain(context):
            context["rows"].append({1, object()})

        @cloaca.task(retry_attempts=1)
        async def coroutine(context):
            context["rows"].append({1: "a"})

        @cloaca.task(retry_attempts=1)
        def returns(context):
            context["rows"].append(b"")
            return {"n": 1}

    tasks = runner.execute("broken", {"rows": []}).tasks
    for task in tasks.values():
        assert task.error.type == "TypeError"
        assert task.error.message.startswith("context key 'rows': ")


def test_b8_changes_are_stored_in_addition_to_the_return_value(runner):
    with cloaca.WorkflowBuilder("returning"):

        @cloaca.task
        def mapping(context):
            context["a"].append(1)
            return {"n": 1}

        @cloaca.task
        def the_context(context):
            context["b"].append(1)
            return context

        @cloaca.task
        def another(context):
            context["c"].append("dropped")
            other = context.copy()
            other["c"].append("kept")
            context["c"].append("too late")
            return other

        @cloaca.task
        async def coroutine(context):
            context["d"].append(1)

    result = runner.execute("returning", {"a": [], "b": [], "c": [], "d": []})
    assert result.status == "Completed", result.error_message
    assert result.final_context == {
        "a": [1],
        "b": [1],
        "c": ["dropped", "kept"],
        "d": [1],
        "n": 1,
    }


def test_b8_a_failed_attempt_leaves_no_changes(runner):
    with cloaca.WorkflowBuilder("again"):

        @cloaca.task(retry_delay_ms=1)
        def add(context, handle):
            context["rows"].append(handle.attempt)
            if handle.attempt == 1:
                raise ConnectionError

    assert runner.execute("again", {"rows": []}).final_context["rows"] == [2]


def test_b8_inputs_and_results_can_be_changed_in_place_too(runner):
    seen = threading.Event()
    in_callback: list[Any] = []

    def note(task_id, context):
        context["rows"].append("callback")
        in_callback.append(context.to_dict())
        seen.set()

    with cloaca.WorkflowBuilder("whole"):

        @cloaca.task(on_success=note)
        def add(context):
            context["rows"].append("task")

    source = cloaca.Context({"rows": []})
    source["rows"].append("input")
    result = runner.execute("whole", source)
    assert source == {"rows": ["input"]}
    assert result.final_context["rows"] == ["input", "task"]
    result.final_context["rows"].append("mine")
    assert result.final_context["rows"] == ["input", "task", "mine"]
    assert runner.get_execution(result.execution_id).final_context["rows"] == ["input", "task"]
    assert seen.wait(30)
    assert in_callback == [{"rows": ["input", "task", "callback"]}]


def test_b8_run_task_keeps_changes():
    def add(context):
        context["rows"].append(1)

    assert run_task(add, {"rows": []}).to_json() == '{"rows":[1]}'


def test_b8_branches_that_change_one_list_in_place_lose_nothing(runner):
    with cloaca.WorkflowBuilder("branches"):
        for name in ("a", "b", "c"):

            @cloaca.task(id=name)
            def add(context, name=name):
                context["seen"]["rows"].append("same")
                context["seen"][name] = 1

    result = runner.execute("branches", {"seen": {"rows": ["first"]}})
    assert result.final_context["seen"] == {
        "rows": ["first", "same", "same", "same"],
        "a": 1,
        "b": 1,
        "c": 1,
    }


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**25), max_value=10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values, values, st.randoms(use_true_random=False))
def test_b8_the_final_state_of_an_object_is_stored(value, other, random):
    context = cloaca.Context({"key": [value]})
    where = context["key"]
    while random.random() < 0.7:
        inner = list(where.values()) if isinstance(where, dict) else where
        containers = [part for part in inner if isinstance(part, (dict, list))]
        if not containers:
            break
        where = random.choice(containers)
    if isinstance(where, dict):
        where[random.choice([*where, "new"])] = other
    elif where and random.random() < 0.5:
        where[random.randrange(len(where))] = other
    else:
        where.append(other)
    now = context["key"]
    assert context.to_json() == cloaca.Context({"key": now}).to_json()
    assert repr(context.to_dict()) == repr({"key": now})


def test_b8_threads_that_read_at_once_get_the_same_object():
    for _ in range(50):
        context = cloaca.Context({"rows": list(range(100))})
        start = threading.Barrier(4)
        found: list[Any] = []

        def read(context=context, start=start, found=found):
            start.wait()
            found.append(context["rows"])

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(rows is found[0] for rows in found)


def test_b8_context_inside_its_own_value_is_garbage_collected():
    class Marker:
        pass

    context = cloaca.Context({"value": {}})
    marker = Marker()
    context["value"].update(context=context, marker=marker)
    gone = weakref.ref(marker)
    del context, marker
    gc.collect()
    assert gone() is None


class WeakList(list[int]):
    """A list that can have a weak reference."""


def test_b8_idle_worker_releases_what_its_task_read():
    released = threading.Event()
    with cloaca.WorkflowBuilder("releases_what_was_read"):

        @cloaca.task(id="read")
        def read(context):
            added = WeakList([1])
            weakref.finalize(added, released.set)
            context["rows"].append(added)

    with cloaca.DefaultRunner(":memory:") as runner:
        result = runner.execute("releases_what_was_read", {"rows": [0]})
        assert result.final_context["rows"] == [0, [1]]
        assert released.wait(10)  # no other task runs


@pytest.mark.parametrize("key", ["a", "abcdefg", "abcdefgh", "abcdefgh1", "ähnlich", 'q"\\', ""])
def test_b8_similar_keys_of_records_are_decoded_as_they_are(key):
    others = [key + "1", key[:-1], key[:5] + "x" + key[5:], "a" * 20]
    records: list[dict[str, int]] = [{name: at} for at, name in enumerate([key, *others, key])]
    records += [dict.fromkeys([key, *others], 0), {key: 1}]
    assert cloaca.Context({"records": records})["records"] == records
