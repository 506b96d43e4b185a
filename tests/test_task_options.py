"""The options of `task` and `external_task`, and the functions that `task` accepts (A2, D1)."""

from __future__ import annotations

import datetime
import functools
import json
from unittest import mock

import pytest

import cloaca
from cloaca._tasks.references import tasks_of


def nothing(context):
    pass


def definition(function=nothing, **options):
    cloaca.task(**{"id": "x", **options})(function)
    return json.loads(json.dumps(tasks_of(function)[-1].to_definition()))


def test_the_decorator_returns_the_function_itself():
    assert cloaca.task(nothing) is nothing
    assert cloaca.task()(nothing) is nothing
    assert cloaca.task(id="other")(nothing) is nothing
    assert nothing({}) is None


class OtherTask:
    """A task of another library, which has its own methods."""

    def __call__(self, context):
        pass

    def delay(self):
        return "delayed"


def test_decorated_object_keeps_its_methods():
    other = OtherTask()
    assert cloaca.task(id="other")(other) is other
    assert other.delay() == "delayed"
    assert not hasattr(other, "apply_async")
    assert tasks_of(other)[-1].id == "other"


def test_the_id_defaults_to_the_functions_name():
    cloaca.task(nothing)
    assert tasks_of(nothing)[-1].id == "nothing"
    partial = functools.partial(nothing)
    cloaca.task(partial)
    assert tasks_of(partial)[-1].id == "nothing"
    with pytest.raises(cloaca.TaskValidationError, match="no name"):
        cloaca.task(lambda context: None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"max_attempts": 3, "initial_delay": 1_000_000, "max_delay": 60_000_000}),
        ({"retry_attempts": 0}, {"max_attempts": 1}),
        ({"retry_attempts": 7}, {"max_attempts": 7}),
        ({"retry_delay_ms": 500}, {"initial_delay": 500_000}),
        ({"retry_max_delay_ms": 0.5}, {"max_delay": 500}),
        ({"retry_backoff": "fixed"}, {"backoff": {"strategy": "fixed"}}),
        ({"retry_backoff": "linear"}, {"backoff": {"strategy": "linear", "multiplier": 1}}),
        ({"retry_condition": "transient"}, {"condition": "transient"}),
        ({"retry_condition": "never"}, {"condition": "never"}),
        ({"retry_condition": ["a", "b"]}, {"condition": {"patterns": ["a", "b"]}}),
        ({"retry_jitter": False}, {"jitter": False}),
        ({"retry_on": ConnectionError}, {"retry_on": ["ConnectionError"]}),
        ({"retry_on": (ConnectionError, OSError)}, {"retry_on": ["ConnectionError", "OSError"]}),
        ({"never_on": (ValueError,)}, {"never_on": ["ValueError"]}),
        ({"retry": cloaca.RetryPolicy(max_attempts=9)}, {"max_attempts": 9}),
        (
            {"retry": cloaca.RetryPolicy(never_on=[KeyError]), "never_on": ValueError},
            {"never_on": ["KeyError", "ValueError"]},
        ),
        (
            {"retry_policy": {"max_attempts": 2, "initial_delay": 0.5, "jitter": False}},
            {"max_attempts": 2, "initial_delay": 500_000, "jitter": False},
        ),
        (
            {"retry_policy": {"backoff": "fixed", "max_delay_ms": 10, "condition": ["x"]}},
            {"max_delay": 10_000, "condition": {"patterns": ["x"]}},
        ),
        (
            {"retry_policy": {"retry_attempts": 2, "retry_delay_ms": 500, "with_jitter": False}},
            {"max_attempts": 2, "initial_delay": 500_000, "jitter": False},
        ),
    ],
)
def test_d1_retry_options_make_one_policy(options, expected):
    retry = definition(**options)["retry"]
    assert {name: retry[name] for name in expected} == expected


def test_options_other_than_retry_options_reach_the_definition():
    found = definition(
        timeout=1.5,
        priority=-5,
        max_context_bytes=10,
        trigger_rule="one_failed",
        dependencies=["a"],
    )
    assert found["timeout"] == 1_500_000
    assert found["priority"] == -5
    assert found["max_context_bytes"] == 10
    assert found["rule"] == "one_failed"
    assert found["dependencies"] == ["a"]
    assert found["kind"] == "sync"
    assert definition(timeout_seconds=datetime.timedelta(minutes=1))["timeout"] == 60_000_000


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"retry_backoff": "exponental"}, "did you mean 'exponential'"),
        ({"retry_condition": "transent"}, "did you mean 'transient'"),
        ({"retry_condition": []}, "at least one"),
        ({"retry_attempts": -1}, "retry_attempts"),
        ({"retry_attempts": "3"}, "retry_attempts"),
        ({"retry_delay_ms": -1}, "retry_delay_ms"),
        ({"retry_max_delay_ms": float("nan")}, "retry_max_delay_ms"),
        ({"retry_jitter": 1}, "retry_jitter"),
        ({"retry_on": (int,)}, "retry_on"),
        ({"retry": 3}, "RetryPolicy"),
        (
            {"retry": cloaca.RetryPolicy(), "retry_attempts": 2},
            "retry or retry_attempts, not both",
        ),
        ({"retry": cloaca.RetryPolicy(), "retry_on": OSError}, "give retry or retry_on, not both"),
        ({"retry": cloaca.RetryPolicy(), "retry_policy": {}}, "not both"),
        ({"retry_policy": {}, "retry_delay_ms": 2}, "retry_policy or retry_delay_ms, not both"),
        ({"retry_policy": {"atempts": 1}}, "'atempts'"),
        ({"retry_policy": {"max_atempts": 1}}, "did you mean 'max_attempts'"),
        ({"retry_policy": {"max_delay": 1, "max_delay_ms": 1}}, "both"),
        ({"retry_policy": {"attempts": 1, "max_attempts": 1}}, "max_attempts twice"),
        ({"retry_policy": 3}, "mapping"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": "-1s"}, "timeout"),
        ({"timeout": 1, "timeout_seconds": 1}, "the same option"),
        ({"trigger_rule": "one_faild"}, "did you mean 'one_failed'"),
        ({"trigger_rule": 3}, "trigger_rule"),
        ({"trigger_rule": "always", "trigger_rules": cloaca.always()}, "exclude each other"),
        ({"priority": 32768}, "priority"),
        ({"priority": 1.0}, "priority"),
        ({"max_context_bytes": 0}, "max_context_bytes"),
        ({"on_success": 3}, "on_success"),
        ({"on_failure": "log"}, "on_failure"),
        (
            {"on_success": lambda context: None},
            r"on_success: .*\(context\) and cannot be called with \(task_id, context\)",
        ),
        ({"on_success": lambda task_id, context, *, extra: None}, "extra"),
        ({"on_success": nothing}, r"nothing\(\) has the signature \(context\)"),
        ({"on_failure": lambda task_id, context: None}, r"\(task_id, error_text, context\)"),
        ({"on_failure": {}.get}, "on_failure: dict.get"),
        ({"dependencies": "a"}, "must be a list"),
        ({"dependencies": [3]}, "must be the id or the function"),
        ({"dependencies": [print]}, "print.* is not a task"),
        ({"id": 3}, "id must be a string"),
    ],
)
def test_a2_an_invalid_option_is_refused_with_a_reason(options, text):
    with pytest.raises(cloaca.TaskValidationError, match=f"(?s)(x|3).*{text}|{text}") as caught:
        cloaca.task(**{"id": "x", **options})(nothing)
    assert isinstance(caught.value, ValueError)


class Notifier:
    def succeeded(self, task_id, context, extra=None):
        pass

    def __call__(self, *given):
        pass


@pytest.mark.parametrize(
    "callback",
    [
        print,
        dict,
        mock.Mock(),
        mock.MagicMock(),
        Notifier().succeeded,
        Notifier(),
        functools.partial(lambda number, task_id, context: None, 1),
        lambda task_id, context: None,
        lambda *given, **options: None,
        functools.wraps(lambda task_id, context: None)(lambda *given: None),
    ],
)
def test_a2_callback_that_takes_its_arguments_is_accepted(callback):
    cloaca.task(id="x", on_success=callback)(nothing)


def test_a2_invalid_option_is_refused_before_a_function_is_given():
    with pytest.raises(ValueError, match="retry_backoff"):
        cloaca.task(retry_backoff="quadratic")


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="retires"):
        cloaca.task(retires=3)  # type: ignore[call-overload]


class Callable:
    def __call__(self, context, handle):
        return (context, handle)


class AsyncCallable:
    async def __call__(self, context):
        pass


@functools.wraps(nothing)
def wrapped(*args, **kwargs):
    return nothing(*args, **kwargs)


async def coroutine(context):
    pass


@pytest.mark.parametrize(
    ("function", "positional", "named", "is_async"),
    [
        (nothing, ("context",), (), False),
        (lambda: None, (), (), False),
        (lambda ctx: None, ("context",), (), False),
        (lambda context, handle: None, ("context", "handle"), (), False),
        (lambda context, task_handle=None: None, ("context", "handle"), (), False),
        (lambda handle: None, ("handle",), (), False),
        (lambda context, *, handle: None, ("context",), (("handle", "handle"),), False),
        (lambda *, context: None, (), (("context", "context"),), False),
        (lambda context, x=1: None, ("context",), (), False),
        (lambda context, x=1, handle=None: None, ("context",), (("handle", "handle"),), False),
        (lambda *args: None, ("context",), (), False),
        (lambda **kwargs: None, (), (), False),
        (lambda context, *args, x=1, **kwargs: None, ("context",), (), False),
        (functools.partial(lambda x, context: None, 1), ("context",), (), False),
        (functools.partial(coroutine), ("context",), (), True),
        (Callable(), ("context", "handle"), (), False),
        (AsyncCallable(), ("context",), (), True),
        (Callable().__call__, ("context", "handle"), (), False),
        (wrapped, ("context",), (), False),
        (coroutine, ("context",), (), True),
    ],
)
def test_a2_arguments_of_a_function_follow_its_signature(function, positional, named, is_async):
    from cloaca._tasks.signature import read_call

    call = read_call(function, "x")
    assert (call.positional, call.named, call.is_async) == (positional, named, is_async)


def generator(context):
    yield 1


async def async_generator(context):
    yield 1


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda context, other: None, "'other'"),
        (lambda context, *, other: None, "'other'"),
        (lambda context, x=1, y=2, *, z: None, "'z'"),
        (lambda a, b, handle: None, "'b'"),
        (functools.partial(lambda a, b, c: None, 1), "'c'"),
        (generator, "generator"),
        (async_generator, "generator"),
        (3, "must be a function"),
    ],
)
def test_a2_a_function_that_cannot_be_a_task_is_refused(function, text):
    with pytest.raises(cloaca.TaskValidationError, match=f"'x'.*{text}"):
        cloaca.task(id="x")(function)


def test_bare_decorator_refuses_anything_but_a_function():
    with pytest.raises(cloaca.TaskValidationError, match="str"):
        cloaca.task("load")  # type: ignore[call-overload]


def test_external_task_returns_its_id_and_has_no_function():
    from cloaca._workflows.registry import registry

    assert cloaca.external_task("resize", dependencies=["load"], timeout=60) == "resize"
    found = registry.loose_task("resize")
    assert found is not None
    data = found.to_definition()
    assert (data["kind"], data["fingerprint"], data["timeout"]) == ("external", "", 60_000_000)
    with pytest.raises(cloaca.TaskValidationError, match=r"'resize'.*timeout"):
        cloaca.external_task("resize", timeout=-1)
