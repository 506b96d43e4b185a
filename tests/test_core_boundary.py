"""The boundary between Python and Rust: `cloaca._core` as the package uses it, by itself."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloaca import _core
from cloaca._encoding import encode
from cloaca._exceptions import (
    CLASS_BY_CODE,
    ConfigurationError,
    ContextError,
    ForkedProcessError,
    RunnerClosedError,
    WorkflowError,
    WorkflowNotFoundError,
)

Context = _core.Context

SETTINGS: dict[str, Any] = {
    "max_concurrent_tasks": 4,
    "max_concurrent_async_tasks": 100,
    "poll_interval_us": 100_000,
    "task_timeout_us": None,
    "workflow_timeout_us": None,
    "enable_recovery": True,
    "heartbeat_interval_us": 5_000_000,
    "lease_ttl_us": 15_000_000,
    "max_rescues": 3,
    "max_context_bytes": 1 << 24,
    "shutdown_timeout_us": 30_000_000,
    "db_timeout_us": 30_000_000,
    "db_pool_size": 2,
    "retention_us": None,
    "auto_migrate": True,
}


@pytest.fixture(autouse=True, scope="module")
def callbacks_of_the_package() -> None:
    _core.set_exceptions(dict(CLASS_BY_CODE))
    _core.set_encoder(encode)


# ---------------------------------------------------------------- contexts

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
def test_a_value_comes_back_as_json_reads_it(value: object) -> None:
    context = Context({"k": value})
    assert_same(context["k"], json.loads(json.dumps(value)))
    assert_same(json.loads(context.to_json())["k"], json.loads(json.dumps(value)))


@given(values, st.booleans(), st.sampled_from([None, 2, "\t"]))
def test_any_json_text_is_read_as_json_reads_it(
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
def test_unusual_json_is_read_as_json_reads_it(text: str) -> None:
    assert_same(Context.from_json(f'{{"k":{text}}}')["k"], json.loads(text))


def assert_same(found: object, expected: object) -> None:
    """Equal in value, type, sign of zero and order of keys."""
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
def test_what_is_not_json_is_refused_where_it_is_set(value: object, error: type[Exception]) -> None:
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


def test_the_depth_that_is_refused_is_the_same_for_plain_and_for_converted_values() -> None:
    def nested(depth: int, leaf: object) -> object:
        return leaf if depth == 0 else [nested(depth - 1, leaf)]

    deepest = next(depth for depth in range(90, 120) if refuses(nested(depth + 1, 0)))
    for leaf in (0, []), (frozenset(), ()):
        for each in leaf:
            extra = 0 if each == 0 else 1
            assert not refuses(nested(deepest - extra, each))
            assert refuses(nested(deepest - extra + 1, each))


def refuses(value: object) -> bool:
    try:
        Context({"k": value})
    except ValueError:
        return True
    return False


def test_a_list_or_mapping_of_another_kind_goes_through_the_encoder() -> None:
    class Words(list[str]):
        pass

    class Table(dict[str, int]):
        pass

    context = Context({"a": Words(["x"]), "b": [Table(y=1)], "c": {"z": (1, {2})}})
    assert context.to_json() == '{"a":["x"],"b":[{"y":1}],"c":{"z":[1,[2]]}}'


def test_a_write_of_many_pairs_is_all_or_nothing() -> None:
    context = Context({"a": 1})
    with pytest.raises(TypeError):
        context.update({"a": 2, "b": object()})
    assert context == {"a": 1}


@pytest.mark.parametrize("key", [1, None, b"a", ("a",)])
def test_a_key_that_is_no_string_is_a_type_error(key: Any) -> None:
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


def test_get_required_names_the_key_and_a_near_one() -> None:
    with pytest.raises(ContextError, match="no key 'rwos'") as raised:
        Context({"rows": 1}).get_required("rwos")
    assert raised.value.code == "context_invalid"
    assert raised.value.hint == "did you mean 'rows'?"
    assert Context({"none": None}).get_required("none") is None


def test_update_with_a_key_and_a_value_changes_what_is_present() -> None:
    context = Context({"a": 1})
    context.update("a", 2)
    assert context == {"a": 2}
    context.update(key="a", value=3)
    assert context == {"a": 3}
    with pytest.raises(KeyError):
        context.update("b", 1)
    assert context == {"a": 3}


def test_update_with_anything_else_is_that_of_a_dict() -> None:
    context = Context({"a": 1})
    context.update({"b": 2}, c=3)
    context.update([("d", 4)])
    context.update(Context({"e": 5}))
    context.update()
    assert context.to_dict() == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    with pytest.raises(TypeError):
        context.update("a", 1, 2)  # type: ignore[call-arg]


def test_a_context_is_equal_to_what_holds_the_same() -> None:
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


def test_views_follow_the_context() -> None:
    context = Context({"a": 1})
    keys, items, all_values = context.keys(), context.items(), context.values()
    context["b"] = 2
    assert list(keys) == ["a", "b"]
    assert list(items) == [("a", 1), ("b", 2)]
    assert list(all_values) == [1, 2]
    assert keys & {"a", "c"} == {"a"}
    assert list(reversed(context)) == ["b", "a"]


def test_a_text_that_is_no_object_is_refused() -> None:
    for text in ("[]", "", "{", "null", '{"a":NaN}', "{'a':1}"):
        with pytest.raises(ValueError, match="JSON object"):
            Context.from_json(text)


def test_insert_and_delete() -> None:
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
def test_a_context_behaves_like_a_dict_and_its_delta_tells_the_difference(
    start: dict[str, int], history: list[tuple[Any, ...]]
) -> None:
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
            context.replace_with(Context(rest[0]))
            assert context == rest[0]
            model = context.to_dict()
        assert list(context.items()) == list(model.items())
        assert len(context) == len(model)


# ---------------------------------------------------------------- a runner, driven by hand


class Crew:
    """Does for a runner what the package does, with functions of `Work`."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.runner = _core.Runner(url, json.dumps(SETTINGS | settings))
        self.functions: dict[str, Callable[[_core.Work], Any]] = {}
        self.events: list[tuple[Any, ...]] = []
        self.changed = threading.Condition()
        self.workers: list[threading.Thread] = []
        self.supervisor = threading.Thread(target=self._supervise, daemon=True)
        self.supervisor.start()

    def define(self, name: str, *tasks: dict[str, Any], executor: str = "threads") -> None:
        workflow = _core.Workflow.build(json.dumps({"name": name, "tasks": list(tasks)}))
        handlers = dict.fromkeys(workflow.tasks, (executor, 7, True, True))
        self.runner.register(workflow, handlers)

    def execute(self, name: str, context: _core.Context | None = None) -> _core.Execution:
        return self.runner.execute(request(name, context))

    def submit(self, name: str) -> str:
        return self.runner.submit([request(name)])[0]

    def wait_for(self, kind: str) -> tuple[Any, ...]:
        with self.changed:
            found = lambda: [event for event in self.events if event[0] == kind]  # noqa: E731
            assert self.changed.wait_for(found, 20), self.events
            return found()[0]

    def close(self, grace_us: int = 5_000_000) -> None:
        self.runner.stop(grace_us)
        for thread in [self.supervisor, *self.workers]:
            thread.join(10)
            assert not thread.is_alive()

    def _supervise(self) -> None:
        while events := self.runner.supervise():
            with self.changed:
                self.events += events
                self.changed.notify_all()
            for event in events:
                if event[0] == "worker_wanted":
                    number = len(self.workers) + 1
                    self.workers.append(
                        threading.Thread(target=self._work, args=(number,), daemon=True)
                    )
                    self.workers[-1].start()

    def _work(self, number: int) -> None:
        work = self.runner.next_work(number)
        while work is not None:
            function = self.functions.get("callback" if work.callback else work.task_id)
            outcome = function(work) if function is not None else None
            work = self.runner.finish_and_next(number, work, outcome or ("completed",))


def request(name: str, context: _core.Context | None = None, key: str | None = None) -> Any:
    return (name, context, key, 0, None, None, None)


def once(id: str, *dependencies: str, **options: Any) -> dict[str, Any]:
    return {
        "id": id,
        "dependencies": dependencies,
        "retry": {
            "max_attempts": 1,
            "backoff": {"strategy": "fixed"},
            "initial_delay": 0,
            "max_delay": 0,
            "jitter": False,
            "condition": "all",
        },
        **options,
    }


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'core.db'}"


@pytest.fixture
def crew(url: str) -> Iterator[Crew]:
    crew = Crew(url)
    yield crew
    crew.close()


def test_what_a_task_wrote_reaches_the_next_task_and_the_result(crew: Crew) -> None:
    def first(work: _core.Work) -> None:
        assert work.context is work.context
        assert work.context.to_dict() == {"in": 1, "gone": 2, "back": 3}
        del work.context["gone"]
        del work.context["back"]
        work.context["back"] = 4
        work.context["new"] = [1]

    seen: list[dict[str, Any]] = []
    crew.functions = {"a": first, "b": lambda work: seen.append(work.context.to_dict())}
    crew.define("flow", once("a"), once("b", "a"))
    execution = crew.execute("flow", Context({"in": 1, "gone": 2, "back": 3}))
    assert execution.status == "Completed"
    assert seen == [{"in": 1, "back": 4, "new": [1]}]
    assert execution.final_context() == seen[0]
    assert [task[:3] for task in execution.tasks()] == [
        ("a", "Completed", 1),
        ("b", "Completed", 1),
    ]


def test_a_context_that_was_submitted_can_be_changed_and_submitted_again(crew: Crew) -> None:
    crew.define("one", once("a"))
    context = Context({"n": 1})
    first = crew.execute("one", context)
    context["n"] = 2
    second = crew.execute("one", context)
    assert [first.final_context()["n"], second.final_context()["n"]] == [1, 2]


def test_a_failure_crosses_as_data(crew: Crew) -> None:
    outcome = (
        "failed",
        "shop.PaymentError",
        "no \ud800 money",
        "Traceback …",
        ["ValueError"],
        True,
    )
    crew.functions = {"a": lambda work: outcome}
    crew.define("bad", once("a"))
    execution = crew.execute("bad")
    assert execution.status == "Failed"
    assert execution.error is not None
    task, kind, message, traceback = execution.error
    assert (task, kind, traceback) == ("a", "shop.PaymentError", "Traceback …")
    assert message.startswith("no ")
    assert message.endswith(" money")


def test_snooze_and_retry_come_back(crew: Crew) -> None:
    attempts: list[int] = []
    outcomes: list[Any] = [("snooze", 1000), ("retry", 1000, "Retry", "again", None), None]

    def task(work: _core.Work) -> Any:
        attempts.append(work.attempt)
        return outcomes[len(attempts) - 1]

    crew.functions = {"a": task}
    twice = once("a")
    twice["retry"]["max_attempts"] = 2
    crew.define("again", twice)
    assert crew.execute("again").status == "Completed"
    assert attempts == [1, 1, 2]


def test_an_unknown_outcome_is_refused_and_the_attempt_goes_on(crew: Crew) -> None:
    refused: list[str] = []

    def task(work: _core.Work) -> None:
        for wrong in (("finished",), ("failed", 1), (), (1,)):
            with pytest.raises((ValueError, TypeError, IndexError)):
                crew.runner.finish_and_next(1, work, wrong)
            refused.append(repr(wrong))

    crew.functions = {"a": task}
    crew.define("one", once("a"))
    assert crew.execute("one").status == "Completed"
    assert len(refused) == 4


def test_callbacks_come_after_the_outcome(crew: Crew) -> None:
    made: list[tuple[str, str | None, int, dict[str, Any]]] = []
    called = threading.Semaphore(0)

    def callback(work: _core.Work) -> None:
        made.append((work.task_id, work.error, work.handler, work.context.to_dict()))
        called.release()

    def write(work: _core.Work) -> None:
        work.context["x"] = 1

    crew.functions = {
        "good": write,
        "bad": lambda work: ("failed", "ValueError", "no", None, [], True),
        "callback": callback,
    }
    crew.define("both", once("good"), once("bad"))
    crew.execute("both")
    for _ in range(2):
        assert called.acquire(timeout=10)
    by_task = {task: rest for task, *rest in made}
    assert by_task["good"] == [None, 7, {"x": 1}]
    assert by_task["bad"][0] is not None
    assert "no" in by_task["bad"][0]


def test_a_worker_that_overran_is_replaced_and_its_result_dropped(crew: Crew) -> None:
    release = threading.Event()
    crew.functions = {"slow": lambda work: release.wait(20) and None}
    crew.define("late", once("slow", timeout=50_000))
    crew.define("one", once("a"))
    execution = crew.execute("late")
    assert execution.error is not None
    assert execution.error[1] == "TaskTimeoutError"
    _, worker, token = crew.wait_for("interrupt")
    assert worker == 1
    assert token > 0
    assert crew.execute("one").status == "Completed"
    release.set()
    crew.workers[0].join(10)
    assert not crew.workers[0].is_alive()
    assert crew.runner.status(execution.execution_id) == "Failed"


def test_more_workers_are_asked_for_only_up_to_the_limit(crew: Crew) -> None:
    barrier = threading.Barrier(4)
    crew.functions = {"a": lambda work: barrier.wait(20) and None}
    crew.define("one", once("a"))
    ids = crew.runner.submit([request("one") for _ in range(12)])
    for id in ids:
        ended = crew.runner.wait(id, None)
        assert ended is not None
        assert ended.status == "Completed"
    assert len(crew.workers) == 4


def test_a_cancelled_task_sees_it(crew: Crew) -> None:
    entered = threading.Event()
    seen: list[bool] = []

    def task(work: _core.Work) -> None:
        seen.append(work.is_cancelled())
        entered.set()
        deadline = time.monotonic() + 20
        while not work.is_cancelled() and time.monotonic() < deadline:
            os.sched_yield()
        seen.append(work.is_cancelled())

    crew.functions = {"a": task}
    crew.define("one", once("a"))
    id = crew.submit("one")
    assert entered.wait(20)
    assert crew.runner.control(id, "cancel") == "Cancelled"
    ended = crew.runner.wait(id, None)
    assert ended is not None
    assert ended.status == "Cancelled"
    crew.close()
    assert seen == [False, True]


def test_the_same_key_gives_the_same_execution(crew: Crew) -> None:
    crew.define("one", once("a"))
    first = crew.runner.execute(request("one", key="k"))
    second = crew.runner.execute(request("one", key="k"))
    assert first.execution_id == second.execution_id
    assert second.key == "k"


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "error", "code"),
    [
        (lambda runner: runner.status("no id"), ConfigurationError, "configuration"),
        (
            lambda runner: runner.list(None, [], None, None, 1, "x"),
            ConfigurationError,
            "configuration",
        ),
        (
            lambda runner: runner.list(None, ["Done"], None, None, 1, None),
            ConfigurationError,
            "configuration",
        ),
        (
            lambda runner: runner.execution("0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"),
            WorkflowNotFoundError,
            "execution_not_found",
        ),
        (
            lambda runner: runner.execute(request("nope")),
            WorkflowNotFoundError,
            "workflow_not_found",
        ),
        (
            lambda runner: runner.submit([(*request("one")[:3], 2**15, None, None, None)]),
            ConfigurationError,
            "configuration",
        ),
    ],
)
def test_an_error_has_the_class_of_its_code(
    crew: Crew, call: Callable[[_core.Runner], Any], error: type[WorkflowError], code: str
) -> None:
    with pytest.raises(error) as raised:
        call(crew.runner)
    assert raised.value.code == code
    assert not hasattr(raised.value, "__notes__")


def test_a_closed_runner_says_so(crew: Crew) -> None:
    crew.define("one", once("a"))
    crew.close()
    assert crew.runner.closed
    for call in (crew.execute, crew.submit):
        with pytest.raises(RunnerClosedError):
            call("one")
    assert crew.runner.next_work(9) is None
    assert crew.runner.supervise() == []
    crew.runner.stop(0)


def test_a_class_for_every_code_is_demanded() -> None:
    with pytest.raises(ValueError, match="forked"):
        _core.set_exceptions(
            {code: kind for code, kind in CLASS_BY_CODE.items() if code != "forked"}
        )


@pytest.mark.parametrize(
    "config",
    ["", "{}", json.dumps(SETTINGS | {"max_speed": 1}), json.dumps(SETTINGS | {"db_pool_size": 0})],
)
def test_settings_that_cannot_be_read_are_a_configuration_error(url: str, config: str) -> None:
    with pytest.raises(ConfigurationError):
        _core.Runner(url, config)


def test_sqlite_has_no_schemas(url: str) -> None:
    """H3."""
    with pytest.raises(ConfigurationError, match="schema") as raised:
        _core.Runner(url, json.dumps(SETTINGS), "tenant_a")
    assert "file" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("", "cannot be read"),
        ('{"name":"x","tasks":[]}', "empty"),
        ('{"name":"a b","tasks":[]}', "invalid"),
    ],
)
def test_a_definition_that_is_not_valid_is_refused(definition: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Workflow.build(definition)


def test_a_workflow_shows_its_graph() -> None:
    tasks = [once("a"), once("b", "a"), once("c", "a"), once("d", "b", "c")]
    workflow = _core.Workflow.build(json.dumps({"name": "w", "tags": {"x": "y"}, "tasks": tasks}))
    full = "public::embedded::w::".__add__
    assert workflow.tasks == ["a", "b", "c", "d"]
    assert workflow.dependencies == {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    assert workflow.topological_sort() == list(map(full, "abcd"))
    assert workflow.get_execution_levels() == [[full("a")], [full("b"), full("c")], [full("d")]]
    assert (workflow.get_roots(), workflow.get_leaves()) == ([full("a")], [full("d")])
    assert workflow.can_run_parallel("b", full("c"))
    assert not workflow.can_run_parallel("a", "d")
    assert workflow.tags == {"x": "y"}
    with pytest.raises(ValueError, match="no task 'e'"):
        workflow.can_run_parallel("a", "e")


# ---------------------------------------------------------------- ports


def is_readable(port: _core.Port, seconds: float = 0) -> bool:
    return bool(select.select([port.fileno()], [], [], seconds)[0])


def test_a_port_is_readable_while_something_is_to_fetch(crew: Crew) -> None:
    release = threading.Event()
    crew.functions = {"a": lambda work: release.wait(20) and None}
    crew.define("one", once("a"))
    ids = [crew.submit("one") for _ in range(3)]
    port = _core.Port()
    tokens = {crew.runner.subscribe(port, id): id for id in ids}
    assert len(tokens) == 3
    assert not is_readable(port)
    release.set()
    ended: dict[int, str] = {}
    while len(ended) < 3:
        assert is_readable(port, 20)
        for token, execution in port.completed():
            assert execution is not None
            ended[token] = execution.execution_id
    assert ended == tokens
    assert not is_readable(port)
    # Ended already: told at once.
    token = crew.runner.subscribe(port, ids[0])
    assert is_readable(port)
    assert [told for told, _ in port.completed()] == [token]


def test_a_port_hears_of_the_end_of_its_runner(crew: Crew) -> None:
    crew.define("never", once("a", kind="external"))
    id = crew.runner.submit([("never", None, None, 0, 3_600_000_000, None, None)])[0]
    port = _core.Port()
    token, dropped = crew.runner.subscribe(port, id), crew.runner.subscribe(port, id)
    crew.runner.unsubscribe(dropped)
    crew.close()
    assert is_readable(port)
    assert port.completed() == [(token, None)]
    with pytest.raises(RunnerClosedError):
        crew.runner.subscribe(port, id)


def test_a_closed_port_hears_nothing(crew: Crew) -> None:
    crew.define("one", once("a"))
    port = _core.Port()
    port.close()
    port.close()
    with pytest.raises(ValueError, match="closed"):
        port.fileno()
    crew.runner.subscribe(port, crew.execute("one").execution_id)


def test_the_loop_is_asked_for_once_and_takes_through_its_port(crew: Crew) -> None:
    crew.define("first", once("a", kind="async"), executor="loop")
    crew.define("second", once("a", kind="async"), executor="loop")
    crew.wait_for("loop_wanted")
    port = crew.runner.loop_port
    ids = crew.runner.submit([request("first") for _ in range(5)])
    done = 0
    while done < 5:
        assert is_readable(port, 20)
        assert port.completed() == []
        while taken := crew.runner.take_async(2):
            assert len(taken) <= 2
            for work in taken:
                done += not work.callback
                crew.runner.finish_async(work, ("completed",))
    for id in ids:
        ended = crew.runner.wait(id, None)
        assert ended is not None
        assert ended.status == "Completed"
    assert [event[0] for event in crew.events].count("loop_wanted") == 1


def test_the_loop_hears_of_timeouts_and_cancels(crew: Crew) -> None:
    crew.define("late", once("a", kind="async", timeout=50_000), executor="loop")
    crew.define("long", once("a", kind="async"), executor="loop")
    ids = [crew.submit("late"), crew.submit("long")]
    port, told, works = crew.runner.loop_port, dict[int, str](), dict[int, _core.Work]()
    cancelled = False
    while len(told) < 2:
        assert is_readable(port, 20)
        port.completed()
        told |= {token: what for what, token in crew.runner.async_notices()}
        works |= {work.token: work for work in crew.runner.take_async(10) if not work.callback}
        if len(works) == 2 and not cancelled:
            cancelled = crew.runner.control(ids[1], "cancel") == "Cancelled"
    assert {works[token].workflow_name: what for token, what in told.items()} == {
        "late": "overrun",
        "long": "cancelled",
    }
    for work in works.values():
        crew.runner.finish_async(work, ("completed",))
    ends = [crew.runner.wait(id, None) for id in ids]
    assert [end and end.status for end in ends] == ["Failed", "Cancelled"]


# ---------------------------------------------------------------- waiting, signals, forks, logs


def test_waiting_ends_when_its_time_is_over(crew: Crew) -> None:
    crew.define("later", once("a"))
    id = crew.runner.submit([("later", None, None, 0, 3_600_000_000, None, None)])[0]
    assert crew.runner.wait(id, 1000) is None
    assert crew.runner.wait(id, 0) is None
    assert crew.runner.load() == (0, 0)


@pytest.mark.parametrize("how", ["wait", "execute", "stop"])
def test_ctrl_c_interrupts_a_call_that_waits(crew: Crew, how: str) -> None:
    release, entered = threading.Event(), threading.Event()

    def task(work: _core.Work) -> None:
        entered.set()
        release.wait(20)

    def press() -> None:
        entered.wait(20)
        os.kill(os.getpid(), signal.SIGINT)

    crew.functions = {"a": task}
    crew.define("one", once("a"))
    calls: dict[str, Callable[[], object]] = {
        "wait": lambda: crew.runner.wait(crew.submit("one"), None),
        "execute": lambda: crew.execute("one"),
        "stop": lambda: (crew.submit("one"), entered.wait(20), crew.runner.stop(20_000_000)),
    }
    presser = threading.Thread(target=press)
    presser.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        calls[how]()
    assert time.monotonic() - began < 5
    presser.join()
    release.set()


def test_a_thread_that_waits_lets_others_run(crew: Crew) -> None:
    crew.functions = {"a": lambda work: None}
    crew.define("one", once("a"))
    statuses: list[str] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(crew.execute("one").status))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert statuses == ["Completed"] * 20


def test_waiting_threads_hear_of_the_end_of_the_runner(crew: Crew) -> None:
    crew.define("later", once("a"))
    id = crew.runner.submit([("later", None, None, 0, 3_600_000_000, None, None)])[0]
    errors: list[BaseException] = []
    waiting = threading.Semaphore(0)

    def wait() -> None:
        waiting.release()
        try:
            crew.runner.wait(id, None)
        except RunnerClosedError as error:
            errors.append(error)

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
        waiting.acquire()
    crew.close()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 3


FORK = """
import json, os, sys, threading
from cloaca import _core
from cloaca._exceptions import CLASS_BY_CODE, ForkedProcessError

_core.set_exceptions(dict(CLASS_BY_CODE))
os.register_at_fork(after_in_child=_core.after_fork_child)
runner = _core.Runner(sys.argv[1], sys.argv[2])
id = "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"
request = ("one", None, None, 0, None, None, None)
port = _core.Port()
calls = [
    lambda: runner.submit([request]),
    lambda: runner.execute(request),
    lambda: runner.wait(id, None),
    lambda: runner.subscribe(port, id),
    lambda: runner.status(id),
    lambda: runner.events(id),
    lambda: runner.control(id, "cancel"),
    lambda: runner.next_work(1),
    lambda: runner.supervise(),
    lambda: runner.take_async(1),
    lambda: runner.stop(0),
]
child = os.fork()
if child == 0:
    refused = 0
    for call in calls:
        try:
            call()
        except ForkedProcessError as error:
            refused += error.code == "forked" and "fork" in error.hint
    del runner, calls, call
    own = _core.Runner(sys.argv[1], sys.argv[2])
    own.stop(0)
    os._exit(refused)
_, status = os.waitpid(child, 0)
runner.stop(0)
print(os.waitstatus_to_exitcode(status), len(calls))
"""


def run_script(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60
    )


def test_a_forked_child_is_refused_and_may_drop_what_it_inherited(url: str) -> None:
    done = run_script(FORK, url, json.dumps(SETTINGS))
    assert done.returncode == 0, done.stderr
    refused, calls = done.stdout.split()
    assert refused == calls


LEFT_OPEN = """
import json, sys, threading
from cloaca import _core
from cloaca._exceptions import CLASS_BY_CODE

_core.set_exceptions(dict(CLASS_BY_CODE))
runner = _core.Runner(sys.argv[1], sys.argv[2])
workflow = _core.Workflow.build(json.dumps({"name": "w", "tasks": [{"id": "a"}]}))
runner.register(workflow, {"a": ("threads", 1, False, False)})
id = runner.submit([("w", None, None, 0, 3_600_000_000, None, None)])[0]
started = threading.Semaphore(0)

def begin(call):
    threading.Thread(target=lambda: (started.release(), call()), daemon=True).start()

for number in range(3):
    begin(lambda: runner.next_work(number))
    begin(lambda: runner.wait(id, None))
    begin(runner.supervise)
for _ in range(9):
    started.acquire()
print("end")
"""


def test_an_interpreter_that_ends_with_open_runners_neither_hangs_nor_crashes(url: str) -> None:
    done = run_script(LEFT_OPEN, url, json.dumps(SETTINGS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_a_runner_that_is_dropped_ends_its_threads(url: str) -> None:
    before = threads_of_this_process()
    runner = _core.Runner(url, json.dumps(SETTINGS))
    assert threads_of_this_process() > before
    del runner
    assert threads_of_this_process() == before


def threads_of_this_process() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


KILLED = """
import os, signal, sys
from cloaca import _core

runner = _core.Runner(sys.argv[1], sys.argv[2])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_log_records_of_the_engine_reach_the_supervisor(crew: Crew, url: str) -> None:
    crew.runner.set_log_level(10)
    assert run_script(KILLED, url, json.dumps(SETTINGS)).returncode == -signal.SIGKILL
    _, level, target, message, fields = crew.wait_for("log")
    assert target.startswith("cloacina")
    assert level in {10, 20}
    assert isinstance(message, str)
    assert all(isinstance(value, (str, int, float, bool)) for value in fields.values())


def test_forked_is_the_error_of_this_process_too() -> None:
    assert ForkedProcessError.default_code == "forked"


def test_helpers() -> None:
    assert abs(_core.now_us() - time.time_ns() // 1000) < 5_000_000
    assert _core.nearest("exract", ["load", "extract"]) == "extract"
    assert _core.nearest("zzz", ["load"]) is None
    assert _core.__version__
