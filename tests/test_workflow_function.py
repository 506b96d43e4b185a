"""`@cloaca.workflow` makes a workflow from one function (semantics T10)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

import cloaca


@dataclass
class Answer:
    """The answer of a support workflow."""

    text: str
    steps: int


@dataclass
class Question:
    """The input of a support workflow."""

    question: str
    urgent: bool = False


def test_t10_result_of_the_function_is_the_workflows_output(runner):
    @cloaca.workflow
    def support(question: str, handle: cloaca.TaskHandle) -> Answer:
        plan = handle.step("plan", lambda: ["read", "write"])
        for number, item in enumerate(plan):
            handle.step(f"work-{number}", item.upper)
        return Answer(question, len(plan))

    result = runner.execute("support", {"question": "why?"}).raise_for_status()
    assert result.output == Answer("why?", 2)
    assert list(result.tasks) == ["support"]
    assert runner.execute("support", {"question": "how?"}).output.text == "how?"


def test_t10_decorator_takes_options_input_and_output_name(runner):
    attempts = []

    @cloaca.workflow(input=Question, output="reply", retry_attempts=2, retry_delay_ms=1)
    async def ask(question: str, urgent: bool, handle) -> str:
        attempts.append(handle.attempt)
        reply = await handle.step("reply", lambda: f"{question}{urgent}")
        if handle.attempt == 1:
            raise ValueError("again")
        return reply

    result = runner.execute("ask", Question("why?")).raise_for_status()
    assert result.output == "why?False"
    assert result.final_context["reply"] == "why?False"
    assert attempts == [1, 2]
    with pytest.raises(cloaca.WorkflowValidationError):
        runner.execute("ask", {"urgent": True})


def test_t10_output_of_a_context_function_is_the_final_context(runner):
    @cloaca.workflow()
    def classic(context, handle):
        context["n"] = handle.step("n", lambda: 7)

    result = runner.execute("classic").raise_for_status()
    assert dict(result.output) == {"n": 7}


def test_t10_decorator_takes_the_options_of_a_waiting_task(runner):
    @cloaca.workflow(wait_for=cloaca.signal("paid", key="order_id"), wait_timeout="30d")
    def book(order_id: str, paid: dict) -> str:
        return f"{order_id}: {paid['amount']}"

    @cloaca.workflow(wait_for=cloaca.delay("30d"), wait_timeout=0.01, on_timeout="skip")
    def never(context): ...

    handle = runner.submit("book", {"order_id": "o-1"})
    runner.send("paid", {"amount": 3}, key="o-1")
    assert handle.result(timeout=60).output == "o-1: 3"
    assert runner.execute("never", timeout=60).tasks["never"].status == "Skipped"


def test_t10_decorator_takes_the_options_of_a_map(runner):
    @cloaca.workflow(over="numbers", parallel=2, tolerate=1, retry_attempts=1)
    def double(number: int) -> int:
        if number == 0:
            raise ValueError("nothing to double")
        return 2 * number

    result = runner.execute("double", {"numbers": [1, 0, 3]}, timeout=60)
    assert result.status == "Completed"
    assert result.of(double) == [2, None, 6]
    assert dict(result.output) == {"numbers": [1, 0, 3]}


def test_t10_map_has_no_key_for_its_results():
    with pytest.raises(cloaca.WorkflowValidationError, match="has output= and over=") as raised:

        @cloaca.workflow(over="numbers", output="doubled")
        def double(number: int) -> int:
            return 2 * number

    assert raised.value.hint == "leave output= out, and read the results with result.of(double)"


def test_t10_decorator_takes_a_trigger_rule(runner):
    @cloaca.workflow(trigger_rule=cloaca.context_value("go", "exists"))
    def careful(context):
        context["went"] = True

    assert runner.execute("careful", timeout=60).tasks["careful"].status == "Skipped"
    assert runner.execute("careful", {"go": 1}, timeout=60).output["went"] is True


def test_t10_decorated_function_can_still_be_called():
    @cloaca.workflow
    def double(number: int) -> int:
        return 2 * number

    assert double(4) == 8


def test_t10_decorator_in_a_block_is_refused():
    with (
        pytest.raises(cloaca.WorkflowValidationError, match="in the block of the workflow 'outer'"),
        cloaca.WorkflowBuilder("outer"),
    ):

        @cloaca.workflow
        def inner(context):
            """Does nothing."""


def test_t10_decorator_refuses_anything_but_a_function():
    with pytest.raises(cloaca.WorkflowValidationError, match="decorates functions"):
        cloaca.workflow("support")


def test_t10_error_for_an_unknown_option_suggests_the_nearest():
    with pytest.raises(TypeError, match="retry_attempts"):
        cloaca.workflow(retry_attempt=3)
