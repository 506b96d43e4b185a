"""Small value types, such as task names and states; also `cloaca.var` and `get_backend`."""

from __future__ import annotations

import copy
import pickle

import pytest

import cloaca


@pytest.mark.parametrize(
    "value",
    [
        cloaca.TaskNamespace("public", "embedded", "etl", "load"),
        cloaca.WorkflowContext(workflow_id="etl"),
        cloaca.RetryPolicy(max_attempts=5, retry_on=[ValueError]),
        cloaca.BackoffStrategy.linear(2),
        cloaca.RetryCondition.error_pattern(["busy"]),
        cloaca.all_of(cloaca.task_failed("load"), cloaca.context_value("rows", ">", 1)),
        cloaca.DefaultRunnerConfig(max_concurrent_tasks=7),
        cloaca.TenantConfig("acme", "acme_user", "secret"),
        cloaca.TenantCredentials("acme_user", "secret", "acme", "postgresql://db.example/app"),
        cloaca.Context({"rows": [1, None]}),
        cloaca.WorkflowStatus.COMPLETED,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_survives_copying_and_pickling(value):
    for again in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))):
        assert type(again) is type(value)
        assert again == value
        assert repr(again) == repr(value)


@pytest.mark.parametrize(
    ("make", "others"),
    [
        (
            lambda: cloaca.ErrorInfo("KeyError", "'day'"),
            [cloaca.ErrorInfo("KeyError", "'day'", task_id="load"), "KeyError"],
        ),
        (
            lambda: cloaca.CronSchedule("etl", "@hourly", context={"day": 1}),
            [cloaca.CronSchedule("etl", "@hourly", context={"day": 2}), "@hourly"],
        ),
        (
            lambda: cloaca.TriggerResult.skip(),
            [cloaca.TriggerResult.skip(state=1), cloaca.TriggerResult.fire()],
        ),
        (
            lambda: cloaca.TriggerResult.fire_many([({"day": 1}, "key")]),
            [cloaca.TriggerResult.fire_many([({"day": 1}, None)]), None],
        ),
    ],
)
def test_objects_with_equal_values_are_equal(make, others):
    assert make() == make()
    assert all(make() != other for other in others)


def test_equal_errors_and_events_have_the_same_hash(cloaca_runner):
    error = cloaca.ErrorInfo("KeyError", "'day'")
    assert len({error, copy.copy(error), cloaca.ErrorInfo("KeyError", "'week'")}) == 2
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: None)
    id = cloaca_runner.execute("w").execution_id
    events = cloaca_runner.events(id)
    assert events == cloaca_runner.events(id)
    assert len({*events, *cloaca_runner.events(id)}) == len(events)
    assert events[0] != events[1]


def test_namespace_consists_of_four_names():
    name = cloaca.TaskNamespace("public", "embedded", "etl", "load")
    assert str(name) == "public::embedded::etl::load"
    assert name == cloaca.TaskNamespace.from_string(str(name))
    assert hash(name) == hash(cloaca.TaskNamespace.from_string(str(name)))
    assert (name.tenant_id, name.package_name, name.workflow_id, name.task_id) == (
        "public",
        "embedded",
        "etl",
        "load",
    )
    assert repr(name) == "TaskNamespace('public', 'embedded', 'etl', 'load')"
    with pytest.raises(AttributeError):
        name.task_id = "x"  # type: ignore[misc]


def test_workflow_context_returns_full_task_names():
    place = cloaca.WorkflowContext(workflow_id="etl")
    assert place.as_components() == ("public", "embedded", "etl")
    assert str(place.task_namespace("load")) == "public::embedded::etl::load"
    assert place != cloaca.WorkflowContext("acme", "embedded", "etl")


@pytest.mark.parametrize("text", ["", "a", "a::b::c", "a::b::c::d::e", "::::::", 3])
def test_malformed_task_name_is_refused(text):
    with pytest.raises(ValueError, match=r"::|text"):
        cloaca.TaskNamespace.from_string(text)


def test_variables_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("CLOACINA_VAR_URL", "http://x")
    assert cloaca.var("URL") == "http://x"
    assert cloaca.var_or("URL", 1) == "http://x"
    assert cloaca.var_or("OTHER", 1) == 1
    with pytest.raises(cloaca.ConfigurationError, match="'OTHER'") as caught:
        cloaca.var("OTHER")
    assert "CLOACINA_VAR_OTHER" in (caught.value.hint or "")
    for call in (lambda: cloaca.var(3), lambda: cloaca.var_or(3, 1)):
        with pytest.raises(cloaca.ConfigurationError, match="name of a variable must be a string"):
            call()


def test_get_backend_names_the_backend_of_the_latest_runner(database):
    with cloaca.DefaultRunner(database):
        assert cloaca.get_backend() == database.partition(":")[0]


def test_states_are_strings_with_a_terminal_flag():
    assert cloaca.WorkflowStatus("Completed") == "Completed"
    assert f"{cloaca.WorkflowStatus.FAILED} {cloaca.TaskStatus.SKIPPED}" == "Failed Skipped"
    assert {str(state) for state in cloaca.WorkflowStatus if state.is_terminal} == {
        "Completed",
        "Failed",
        "Cancelled",
    }
    assert {str(state) for state in cloaca.TaskStatus if not state.is_terminal} == {
        "Pending",
        "Ready",
        "Running",
        "Waiting",
    }
