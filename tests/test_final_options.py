"""Definitions of final tasks and compensations (semantics Q)."""

from __future__ import annotations

import pytest

import cloaca
from final_support import Ran, define_trip


def test_q1_internal_workflow_of_final_tasks_cannot_be_submitted(runner):
    define_trip(Ran(), "")
    with pytest.raises(cloaca.WorkflowError, match="final tasks of 'trip' and cannot be submitted"):
        runner.submit("trip~final")
    assert "trip~final" not in [one.workflow_name for one in runner.list_executions()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"final": "sometimes"}, "final must be one of"),
        ({"undoes": ["setup"]}, "undoes= is given without final="),
        ({"compensate_failed": True}, "compensate_failed needs a function"),
        ({"compensate": "refund"}, "compensate must be a function"),
        ({"final": "always", "compensate": print}, "a final task cannot have"),
        ({"final": "always", "undoes": "setup"}, "undoes must be a list"),
        ({"final": "always", "over": "urls"}, "a final task cannot have over="),
        ({"final": "always", "wait_for": cloaca.delay(1)}, "a final task cannot have wait_for="),
    ],
)
def test_q_invalid_or_conflicting_options_are_refused(options, message):
    with pytest.raises(cloaca.TaskValidationError, match=message):

        @cloaca.task(**options)
        def work(context): ...


def test_q_invalid_references_and_names_are_refused():
    def define(**options):
        with cloaca.WorkflowBuilder("refused"):

            @cloaca.task
            def setup(context): ...

            @cloaca.task(final="always", **options)
            def teardown(context): ...

    with pytest.raises(cloaca.TaskValidationError, match="undoes unknown task 'setip'"):
        define(undoes=["setip"])
    with pytest.raises(cloaca.TaskValidationError, match="depends on the ordinary task 'setup'"):
        define(dependencies=["setup"])
    builder = cloaca.WorkflowBuilder("a~final")
    with pytest.raises(cloaca.WorkflowValidationError, match="invalid workflow name"):
        builder.build()


def test_q_compensation_that_is_a_map_is_refused():
    @cloaca.task(over="urls")
    def undo(url): ...

    builder = cloaca.WorkflowBuilder("refused")
    with (
        pytest.raises(cloaca.TaskValidationError, match="which a final task cannot have") as raised,
        builder,
    ):

        @cloaca.task(compensate=undo)
        def work(context): ...

    assert "leave over= out" in raised.value.hint


def test_q_change_of_only_final_tasks_changes_the_version():
    def version(final: str | None, n: int = 1) -> str:
        builder = cloaca.WorkflowBuilder("versioned")
        with builder:

            @cloaca.task
            def work(context): ...

            if final is not None:

                @cloaca.task(final=final)
                def clean(context): ...

        return builder.build().version

    plain = version(None)
    assert version(None) == plain
    assert len({plain, version("always"), version("failure")}) == 3
