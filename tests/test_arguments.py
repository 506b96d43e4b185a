"""Arguments of the Python API: hints for wrong names and values, and the accepted forms."""

from __future__ import annotations

import asyncio
import inspect
import math
from pathlib import Path

import pytest

import cloaca


def task(context):
    pass


def build(**options):
    cloaca.WorkflowBuilder("w", **options)


@pytest.fixture
def runner():
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(task)
    with cloaca.DefaultRunner(":memory:") as runner:
        yield runner


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (
            {"retries": 3},
            "did you mean 'retry_attempts'? (it counts all attempts, including the first)",
        ),
        ({"depends_on": []}, "did you mean 'dependencies'?"),
        ({"dependancies": []}, "did you mean 'dependencies'?"),
        ({"name": "x"}, "did you mean 'id'?"),
        ({"retry_delay": 1}, "did you mean 'retry_delay_ms'? (in milliseconds)"),
    ],
)
@pytest.mark.parametrize(
    "call",
    [cloaca.task, lambda **options: cloaca.external_task("x", **options)],
    ids=["task", "external_task"],
)
def test_a2_error_for_an_unknown_task_option_suggests_a_known_one(call, options, hint):
    with pytest.raises(TypeError, match="unexpected keyword argument") as caught:
        call(**options)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"input": {}}, "did you mean 'context'?"),
        ({"idempotency_key": "x"}, "did you mean 'key'?"),
        ({"execution_key": "x"}, "did you mean 'key'?"),
        ({"priorty": 1}, "did you mean 'priority'?"),
        ({"countdown": 1}, "did you mean 'delay'?"),
    ],
)
@pytest.mark.parametrize("name", ["submit", "execute"])
def test_error_for_an_unknown_submit_argument_suggests_a_known_one(runner, name, options, hint):
    with pytest.raises(TypeError, match="unexpected keyword argument") as caught:
        getattr(runner, name)("w", **options)
    assert hint in str(caught.value)
    assert str(caught.value).startswith(f"DefaultRunner.{name}() got an unexpected")


def test_argument_errors_name_the_public_class_and_method(runner):
    calls = {
        "DefaultRunner.cancel_execution": lambda: runner.cancel_execution(),
        "DefaultRunner.events": lambda: runner.events(x=1),
        "DefaultRunner.register_cron_workflow": lambda: runner.register_cron_workflow(x=1),
        "DefaultRunner.send": lambda: runner.send(x=1),
        "DefaultRunner.tenant": lambda: runner.tenant(),
        "DefaultRunner.list_trigger_schedules": lambda: runner.list_trigger_schedules(x=1),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError) as caught:
            call()
        assert str(caught.value).startswith(f"{name}() "), name


def test_a2_error_for_an_unknown_trigger_option_suggests_a_known_one():
    meanings = {"interval": "poll_interval", "every": "poll_interval", "workflow": "on"}
    for option, meant in meanings.items():
        with pytest.raises(TypeError, match=f"did you mean '{meant}'"):
            cloaca.trigger(**{option: "1s"})


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
def test_d4_error_for_an_invalid_timeout_says_that_infinity_is_allowed(runner, timeout):
    message = "timeout must be positive, or math.inf for no limit: "
    with pytest.raises(ValueError, match=message):
        runner.submit("w", timeout=timeout)
    with pytest.raises(ValueError, match=message):
        cloaca.task(id="x", timeout=timeout)(task)


def test_d4_timeouts_and_delays_may_be_strings(runner):
    with cloaca.WorkflowBuilder("texts"):

        @cloaca.task(timeout="1h", retry_policy={"initial_delay": "10ms", "max_delay": "1m"})
        def once(context, handle):
            if handle.attempt == 1:
                raise cloaca.Retry(after="1ms")
            if handle.attempt == 2:
                raise ConnectionError("not yet")

    assert runner.execute("texts", timeout="1h", delay="10ms").status == "Completed"
    result = runner.submit("texts", timeout="1h", delay="10ms").result(timeout="20s")
    assert result.status == "Completed"
    runner.wait_until_idle("20s")
    assert runner.prune(older_than="30d") == 0
    assert cloaca.RetryPolicy(initial_delay="90s", max_delay="1d").initial_delay == 90
    assert str(cloaca.Snooze("2m")) == "snoozed for 120 s"


@pytest.mark.parametrize("value", ["soon", "5 weeks", "", [5], True])
def test_d4_error_for_an_invalid_duration_lists_the_valid_forms(runner, value):
    calls = [
        lambda: runner.submit("w", timeout=value),
        lambda: runner.submit("w", delay=value),
        lambda: runner.wait_until_idle(value),
        lambda: runner.prune(older_than=value),
        lambda: cloaca.task(id="x", timeout=value)(task),
        lambda: cloaca.RetryPolicy(max_delay=value),
        lambda: cloaca.Retry(after=value),
        lambda: cloaca.Snooze(value),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must be a duration, not") as caught:
            call()
        forms = 'use seconds, a timedelta, or a string such as "90s", "10m", "48h" or "7d"'
        assert caught.value.hint == forms
    with pytest.raises(ValueError, match=r"must be positive, or math.inf for no limit"):
        runner.submit("w", timeout="0s")


def test_error_for_a_setting_passed_to_the_runner_names_the_config(recwarn):
    for option in ({"max_concurrent_tasks": 4}, {"max_workers": 4}):
        with pytest.raises(TypeError, match=r"DefaultRunnerConfig\(max_concurrent_tasks=...\)"):
            cloaca.DefaultRunner(":memory:", **option)
    assert not recwarn.list


def test_error_for_an_unknown_setting_suggests_a_known_one():
    with pytest.raises(TypeError, match="did you mean 'max_concurrent_tasks'"):
        cloaca.DefaultRunnerConfig(max_concurent_tasks=4)
    with pytest.raises(TypeError, match="did you mean 'tenant'"):
        build(tennant="x")


def test_type_error_raised_inside_a_call_gets_no_argument_hint(runner):
    with pytest.raises(TypeError) as caught:
        runner.submit("w", {"x": object()})
    assert "hint: did you mean" not in str(caught.value)


def test_public_callables_keep_their_signatures_and_docstrings():
    assert list(inspect.signature(cloaca.DefaultRunner).parameters) == [
        "database_url",
        "config",
        "schema",
        "start",
    ]
    assert "retry_attempts" in inspect.signature(cloaca.task).parameters
    assert cloaca.task.__doc__.startswith("Make a task")


def test_a2_extra_parameter_is_refused_with_a_hint():
    with pytest.raises(cloaca.TaskValidationError, match=r"read it from the context: context\['r"):
        cloaca.task(id="x")(lambda context, rows: None)


def test_a2_method_and_class_are_refused_with_a_hint():
    with pytest.raises(cloaca.TaskValidationError, match="is on a method"):

        class Pipeline:
            @cloaca.task
            def load(self, context):
                pass

    with pytest.raises(cloaca.TaskValidationError, match="Extract is a class"):

        @cloaca.task
        class Extract:
            pass


def test_d4_infinite_timeout_disables_the_limit():
    with cloaca.WorkflowBuilder("patient") as builder:

        @cloaca.task(timeout=math.inf)
        def wait(context):
            pass

    config = cloaca.DefaultRunnerConfig(
        task_timeout_seconds=math.inf, workflow_timeout_seconds=math.inf
    )
    assert (config.task_timeout_seconds, config.workflow_timeout_seconds) == (None, None)
    with cloaca.DefaultRunner(":memory:", config) as runner:
        assert runner.execute(builder.build(), timeout=math.inf).status == "Completed"


def test_d4_task_without_a_timeout_outlives_the_default_timeout(cloaca_runner):
    with cloaca.WorkflowBuilder("patient"):

        @cloaca.task(timeout=math.inf)
        async def wait(context):
            import asyncio

            await asyncio.sleep(400_000)

    result = cloaca_runner.execute("patient", timeout=math.inf)
    assert result.status == "Completed"
    assert result.duration.total_seconds() > 300_000


def test_whole_number_of_seconds_stays_an_integer():
    config = cloaca.DefaultRunnerConfig(task_timeout_seconds=600)
    assert config.task_timeout_seconds == 600
    assert isinstance(config.task_timeout_seconds, int)


def test_task_of_the_same_block_can_be_added_again_by_id():
    with cloaca.WorkflowBuilder("w") as builder:

        @cloaca.task(id="x")
        def x(context):
            pass

        assert builder.add_task("x") is builder
    assert len(builder.build().tasks) == 1


def test_error_for_an_unset_variable_is_also_a_key_error(monkeypatch):
    monkeypatch.delenv("CLOACINA_VAR_NOWHERE", raising=False)
    for kind in (KeyError, ValueError, cloaca.ConfigurationError):
        with pytest.raises(kind, match="'NOWHERE' is not set"):
            cloaca.var("NOWHERE")


def test_repr_of_a_trigger_result_says_fire_or_skip():
    assert "Skip" in repr(cloaca.TriggerResult.skip())
    assert "Fire" in repr(cloaca.TriggerResult.fire({"a": 1}))
    assert "'a': 1" in repr(cloaca.TriggerResult.fire({"a": 1}))


def test_url_of_an_absolute_path_can_have_three_slashes(tmp_path):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(task)
    path = tmp_path / "x.db"
    with cloaca.DefaultRunner(f"sqlite://{path}") as runner:
        assert runner.execute("w").status == "Completed"
    assert path.exists()
    assert not Path(str(path).lstrip("/")).exists()


def test_c2_context_rule_reads_a_dotted_path_and_names_missing_keys():
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def load(context):
            context["order"] = {"total": 5}

        @cloaca.task(dependencies=[load], trigger_rules=cloaca.context_value("order.total", ">", 1))
        def large(context):
            pass

        @cloaca.task(dependencies=[load], trigger_rules=cloaca.context_value("order.totl", ">", 1))
        def typo(context):
            pass

    with cloaca.DefaultRunner(":memory:") as runner:
        tasks = runner.execute("w").tasks
    assert tasks["large"].status == "Completed"
    assert tasks["typo"].status == "Skipped"
    assert "the context has no 'order.totl'; did you mean 'order.total'?" in (
        tasks["typo"].skip_reason
    )


@pytest.mark.parametrize("kind", [NameError, SyntaxError, ImportError, NotImplementedError])
def test_d1_error_that_waiting_cannot_fix_is_retried_only_on_request(cloaca_runner, kind):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def work(context):
            raise kind("x")

        @cloaca.task(retry_on=kind, retry_attempts=2)
        def named(context):
            raise kind("x")

    tasks = cloaca_runner.execute("w").tasks
    assert (tasks["work"].attempts, tasks["named"].attempts) == (1, 2)


def version_with(value):
    with cloaca.WorkflowBuilder("alert") as builder:

        @cloaca.task
        def check(context):
            context["alert"] = context["x"] > value

    return builder.build().version


def test_a4_version_covers_plain_values_that_a_function_closes_over():
    assert len({version_with(value) for value in (1, 100, "x", 1.0)}) == 4
    assert version_with([1, 2]) != version_with([1])
    assert version_with({"a": 1}) == version_with({"a": 1})
    assert version_with(object()) == version_with(object())


@pytest.mark.parametrize("name", ["submit_async", "execute_async", "submit_many_async"])
def test_error_for_an_unknown_async_argument_suggests_a_known_one(runner, name):
    method = getattr(runner, name)
    assert inspect.iscoroutinefunction(method)
    argument = "submision" if "many" in name else "idempotency_key"
    with pytest.raises(TypeError, match="unexpected keyword argument") as caught:
        asyncio.run(method(**{argument: []}))
    meant = "submissions" if "many" in name else "key"
    assert f"did you mean '{meant}'?" in str(caught.value)


def test_type_error_raised_inside_a_coroutine_gets_no_argument_hint(runner):
    with pytest.raises(TypeError, match="context must be a mapping") as caught:
        asyncio.run(runner.submit_async("w", context=[1]))
    assert "did you mean" not in str(caught.value)


def test_rules_and_database_admin_accept_documented_argument_names():
    assert cloaca.task_success(id="a") == cloaca.task_success("a")
    assert cloaca.task_failed(id="a") == cloaca.task_failed("a")
    assert cloaca.task_skipped(id="a") == cloaca.task_skipped("a")
    assert "db.example" in repr(cloaca.DatabaseAdmin(url="postgresql://db.example/app"))
