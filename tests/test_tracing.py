"""OpenTelemetry: the spans of an execution and its attempts form one trace across processes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import cloaca

#: Maximum time for each wait, in seconds.
PATIENCE = 30
_exporter = InMemorySpanExporter()


@pytest.fixture
def spans(monkeypatch):
    """A function that returns the exported spans by name. Other tests have no provider."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    _exporter.clear()
    yield lambda: {span.name: span for span in _exporter.get_finished_spans()}
    _exporter.clear()


def define():
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="sync")
        def sync(context):
            with trace.get_tracer("program").start_as_current_span("inner"):
                pass

        @cloaca.task(id="async", dependencies=["sync"])
        async def asynchronous(context):
            pass

        @cloaca.task(id="boom", dependencies=["async"], retry_attempts=1)
        def boom(context):
            raise ValueError("no way")


@pytest.mark.parametrize("how", ["execute", "submit", "submit_many"])
def test_submission_and_tasks_share_one_trace(database, spans, how):
    define()
    with cloaca.DefaultRunner(database) as runner:
        with trace.get_tracer("program").start_as_current_span("request"):
            if how == "execute":
                result = runner.execute("w")
            elif how == "submit":
                result = runner.submit("w").result(PATIENCE)
            else:
                result = runner.submit_many([("w", None)])[0].result(PATIENCE)
        assert result.status == "Failed"
    found = spans()
    assert set(found) == {
        "request", "workflow w", "task sync", "inner", "task async", "task boom",
    }  # fmt: skip
    assert len({span.context.trace_id for span in found.values()}) == 1
    assert found["workflow w"].parent.span_id == found["request"].context.span_id
    execution = found["workflow w"].context.span_id
    for name in ("task sync", "task async", "task boom"):
        assert found[name].parent.span_id == execution
    assert found["inner"].parent.span_id == found["task sync"].context.span_id

    assert found["workflow w"].attributes["cloaca.execution_id"] == result.execution_id
    assert found["workflow w"].attributes["cloaca.status"] == "Failed"
    assert found["workflow w"].status.status_code is StatusCode.ERROR
    assert found["task sync"].attributes["cloaca.attempt"] == 1
    assert found["task sync"].status.status_code is StatusCode.OK
    assert found["task boom"].status.description == "ValueError: no way"
    (event,) = found["task boom"].events
    assert event.attributes["exception.type"] == "ValueError"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_each_run_of_a_step_has_a_span_within_its_attempt(database, spans, kind):
    def plan() -> int:
        with trace.get_tracer("program").start_as_current_span("inner"):
            return 3

    def explode() -> None:
        raise ValueError("no way")

    with cloaca.WorkflowBuilder("stepping"):
        if kind == "sync":

            @cloaca.task(id="work", retry_attempts=2, retry_delay_ms=1)
            def work(context, handle):
                handle.step("plan", plan)
                handle.step("boom", explode)

        else:

            @cloaca.task(id="work", retry_attempts=2, retry_delay_ms=1)
            async def work_async(context, handle):
                await handle.step("plan", plan)
                await handle.step("boom", explode)

    with cloaca.DefaultRunner(database) as runner:
        assert runner.execute("stepping").status == "Failed"
    found: dict[str, list[Any]] = {}
    for span in _exporter.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    # The second attempt gets the recorded result of step `plan`, and calls only step `boom`.
    assert {name: len(of_name) for name, of_name in found.items()} == {
        "workflow stepping": 1, "task work": 2, "step plan": 1, "inner": 1, "step boom": 2,
    }  # fmt: skip
    attempts = [span.context.span_id for span in found["task work"]]
    (step,), (inner,) = found["step plan"], found["inner"]
    assert step.attributes["cloaca.step"] == "plan"
    assert step.parent.span_id == attempts[0]
    assert inner.parent.span_id == step.context.span_id
    assert step.status.status_code is not StatusCode.ERROR
    assert [span.parent.span_id for span in found["step boom"]] == attempts
    for span in found["step boom"]:
        assert span.status.status_code is StatusCode.ERROR
        (event,) = span.events
        assert event.attributes["exception.message"] == "no way"


WORKER = """
import json, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
import cloaca
with cloaca.WorkflowBuilder("far"):
    cloaca.task(id="a")(lambda context: None)
with cloaca.DefaultRunner(sys.argv[1]) as runner:
    runner.wait_until_idle(30)
spans = exporter.get_finished_spans()
print(json.dumps([[s.name, s.context.trace_id, s.parent and s.parent.span_id] for s in spans]))
"""


def test_a_worker_in_another_process_joins_the_trace(database, spans, tmp_path):
    with cloaca.WorkflowBuilder("far"):
        cloaca.external_task("a")
    with cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("far")
        path = tmp_path / "worker.py"
        path.write_text(WORKER)
        output = subprocess.run(
            [sys.executable, str(path), database], capture_output=True, text=True, check=True
        ).stdout
        assert handle.result(PATIENCE).status == "Completed"
        assert "traced" in [event.type for event in handle.events()]
    mine = spans()["workflow far"]
    ((name, trace_id, parent),) = json.loads(output)
    assert (name, trace_id, parent) == ("task a", mine.context.trace_id, mine.context.span_id)


def test_without_a_provider_no_trace_is_stored(script, database):
    process = script(
        """
        import sys, cloaca
        import opentelemetry.trace
        with cloaca.WorkflowBuilder("w"):
            cloaca.task(id="a")(lambda context: None)
        with cloaca.DefaultRunner(sys.argv[1]) as runner:
            handle = runner.submit("w")
            assert handle.result(30).status == "Completed"
            assert "traced" not in [event.type for event in handle.events()]
        assert "opentelemetry.sdk" not in sys.modules
        """,
        database,
    )
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")


def test_a_refused_submission_ends_its_span(database, spans):
    with cloaca.DefaultRunner(database) as runner:
        with pytest.raises(cloaca.WorkflowNotFoundError):
            runner.submit("never-defined")
        with pytest.raises(cloaca.WorkflowNotFoundError):
            runner.execute("never-defined")
    assert len(_exporter.get_finished_spans()) == 2
    assert spans()["workflow never-defined"].status.status_code is StatusCode.ERROR
