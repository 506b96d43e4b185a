"""The exception classes: their bases, codes and hints."""

from __future__ import annotations

import builtins
import pickle

import pytest

import cloaca
from cloaca._tasks.control import TaskControl
from cloaca._values.exceptions import CLASS_BY_CODE
from cloaca._values.type_name import lineage

TREE = {
    "CloacaException": (Exception,),
    "WorkflowError": (cloaca.CloacaException,),
    "WorkflowValidationError": (cloaca.WorkflowError, ValueError),
    "WorkflowInputError": (cloaca.WorkflowValidationError,),
    "WorkflowNotFoundError": (cloaca.WorkflowError, ValueError, KeyError),
    "WorkflowExecutionError": (cloaca.WorkflowError,),
    "WorkflowTimeoutError": (cloaca.WorkflowError, TimeoutError),
    "TaskError": (cloaca.CloacaException,),
    "TaskValidationError": (cloaca.TaskError, ValueError),
    "TaskInputError": (cloaca.TaskError, TypeError),
    "TaskExecutionError": (cloaca.TaskError,),
    "TaskTimeoutError": (cloaca.TaskError, TimeoutError),
    "ContextError": (cloaca.CloacaException,),
    "WaitTimeoutError": (cloaca.CloacaException, TimeoutError),
    "AlreadyDecidedError": (cloaca.WorkflowError,),
    "ChildFailedError": (cloaca.TaskError,),
    "ConfigurationError": (cloaca.CloacaException, ValueError),
    "DatabaseError": (cloaca.CloacaException,),
    "ConnectionError": (cloaca.DatabaseError, builtins.ConnectionError),
    "MigrationError": (cloaca.DatabaseError,),
    "ScheduleError": (cloaca.CloacaException, ValueError),
    "RunnerClosedError": (cloaca.CloacaException, RuntimeError),
    "ForkedProcessError": (cloaca.CloacaException, RuntimeError),
}


@pytest.mark.parametrize("name", TREE)
def test_every_class_has_its_bases_a_code_and_a_public_module(name):
    kind = getattr(cloaca, name)
    for base in TREE[name]:
        assert issubclass(kind, base)
    assert kind.__module__ == "cloaca"
    error = kind("what went wrong", hint="do this")
    assert (error.code, error.hint, error.message) == (
        kind._default_code,
        "do this",
        "what went wrong",
    )
    assert str(error) == "what went wrong\nhint: do this"
    assert str(kind("without a hint")) == "without a hint"
    assert kind().message == kind._default_message


@pytest.mark.parametrize("name", TREE)
def test_errors_survive_pickling(name):
    error = getattr(cloaca, name)("message", code="other", hint="hint")
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert (str(twin), twin.code, twin.hint) == (str(error), "other", "hint")


@pytest.mark.parametrize(
    "kind",
    [*CLASS_BY_CODE.values(), TaskControl, cloaca.Retry, cloaca.Abort, cloaca.Snooze],
    ids=lambda kind: kind.__name__,
)
def test_d1_stored_type_names_contain_no_private_module(kind):
    assert all("." not in name for name in lineage(kind))
    assert lineage(kind)[0] == kind.__name__


def test_d1_stored_type_names_keep_the_module_of_a_program():
    class Own(cloaca.TaskError):
        pass

    assert lineage(Own)[:2] == [f"{__name__}.{Own.__qualname__}", "TaskError"]


def test_error_of_a_decision_or_a_child_without_details_has_none():
    error = cloaca.AlreadyDecidedError()
    assert (error.by, error.at) == (None, None)
    assert cloaca.ChildFailedError().error is None


def test_codes_and_leaf_classes_correspond_to_each_other():
    codes = {kind._default_code for kind in CLASS_BY_CODE.values()}
    abstract = {"cloaca", "task"}
    assert {getattr(cloaca, name)._default_code for name in TREE} - abstract <= codes | {"workflow"}
    for code, kind in CLASS_BY_CODE.items():
        assert issubclass(kind, cloaca.CloacaException), code


def test_wait_timeout_error_differs_from_the_execution_timeout_error():
    kind = CLASS_BY_CODE["wait_timeout"]
    assert issubclass(kind, TimeoutError)
    assert not issubclass(kind, cloaca.WorkflowTimeoutError)


def test_d2_control_exceptions_have_readable_text():
    assert cloaca.Retry(after=1.5, reason="busy")._after_us == 1_500_000
    assert cloaca.Retry()._after_us is None
    assert str(cloaca.Retry(reason="busy")) == "busy"
    assert str(cloaca.Abort("no")) == "no"
    assert cloaca.Snooze(60)._after_us == 60_000_000
    assert str(cloaca.Snooze(0.5)) == "snoozed for 0.5 s"
    for kind in (cloaca.Retry, cloaca.Abort, cloaca.Snooze):
        assert not issubclass(kind, cloaca.CloacaException)
        assert kind.code.startswith("task_")
        assert kind.hint is None


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "5", True, None])
def test_d2_an_invalid_snooze_is_refused(seconds):
    with pytest.raises(cloaca.ConfigurationError, match="seconds"):
        cloaca.Snooze(seconds)
