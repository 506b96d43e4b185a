"""OpenTelemetry: a span for each execution and each attempt, if the program has set up tracing.

This module imports OpenTelemetry only if the program has loaded `opentelemetry.trace`, because
otherwise the program has not set up tracing. The submitter's trace context is stored in the
execution's history, so that the spans of the execution's tasks join the same trace in every
process.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.trace import Span, Tracer

    from cloaca._core import ExecutionEnded, Outcome, Runner, SubmitRequest, Work

# Maximum number of executions whose trace contexts are cached.
_REMEMBERED = 4096


def tracer() -> Tracer | None:
    """Returns the tracer if the program has set one up, otherwise `None`."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    if trace is None or not hasattr(trace, "get_tracer_provider"):
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        return None
    found: Tracer = provider.get_tracer("cloaca")
    return found


class ExecutionSpan:
    """The span of an execution: it ends when this process learns that the execution has ended."""

    def __init__(self, tracer: Tracer, workflow: str) -> None:
        import json

        from opentelemetry import propagate, trace

        self._span = tracer.start_span(
            f"workflow {workflow}",
            kind=trace.SpanKind.PRODUCER,
            attributes={"cloaca.workflow": workflow},
        )
        headers: dict[str, str] = {}
        propagate.inject(headers, trace.set_span_in_context(self._span))
        #: The trace context that is stored with the execution.
        self.carrier = json.dumps(headers)

    def identify(self, execution_id: str) -> None:
        """Adds the execution's id to the span."""
        self._span.set_attribute("cloaca.execution_id", execution_id)

    def end(self, status: str, ended_at_us: int | None, error: Any = None) -> None:
        """Ends the span with the execution's state and error."""
        self._span.set_attribute("cloaca.status", status)
        _mark(self._span, status == "Completed", str(error) if error else status)
        self._span.end(None if ended_at_us is None else ended_at_us * 1000)

    def abandon(self, error: BaseException | None = None) -> None:
        """Ends the span of an execution that was refused, or was still open at the shutdown.

        The span also ends here if the submission returned an earlier execution with the same key,
        and this process has an open span for that execution.
        """
        if error is not None:
            self._span.record_exception(error)
            _mark(self._span, False, str(error))
        self._span.end()


# The open spans by execution id. They belong to the process, not to a runner, because a runner's
# supervisor is also notified when executions of its tenants end.
_open: dict[str, tuple[ExecutionSpan, Tracing]] = {}


class Tracing:
    """The spans of a runner's executions, and a cache of trace contexts."""

    def __init__(self, core: Runner) -> None:
        self._core = core
        self._lock = allocate_lock()
        self._contexts: dict[str, Any] = {}

    def begin(self, requests: list[SubmitRequest]) -> list[ExecutionSpan]:
        """Return a span for each execution that will be submitted; no spans without a tracer."""
        found = tracer()
        return [] if found is None else [ExecutionSpan(found, each.workflow) for each in requests]

    def submitted(self, spans: list[ExecutionSpan], ids: list[str]) -> None:
        """Registers the spans of durable executions, so that the engine reports when they end."""
        for span, id in zip(spans, ids, strict=True):
            span.identify(id)
            before, _ = _open.setdefault(id, (span, self))
            if before is not span:
                span.abandon()  # the id has an open span: an earlier execution has the key
            else:
                self._core.announce_end(id)

    def ended(self, event: ExecutionEnded) -> None:
        """Ends the span of an execution."""
        found = _open.pop(event.execution_id, None)
        if found is not None:
            found[0].end(event.status, event.ended_at_us, event.error)

    def close(self) -> None:
        """Ends the open spans of this runner's executions, when the runner is shut down."""
        for id, (span, owner) in list(_open.items()):
            if owner is self and _open.pop(id, None) is not None:
                span.abandon()

    def context_of(self, execution_id: str) -> Any:
        """Return the trace context that an execution was submitted with, or `None`."""
        if execution_id in self._contexts:
            return self._contexts[execution_id]
        import json

        from opentelemetry import propagate

        try:
            kept = self._core.reads.trace(execution_id)
        except Exception:
            return None  # the database does not answer; the task runs without a parent span
        found = propagate.extract(json.loads(kept)) if kept else None
        with self._lock:
            if len(self._contexts) >= _REMEMBERED:
                self._contexts.pop(next(iter(self._contexts)))
            self._contexts[execution_id] = found
        return found


class AttemptSpan:
    """The span of an attempt, as a context manager, and the parent of spans that the task opens."""

    def __init__(self, tracer: Tracer, tracing: Tracing, work: Work) -> None:
        from opentelemetry import trace

        self._token: Any = None
        self._span = tracer.start_span(
            f"task {work.task_id}",
            context=tracing.context_of(work.execution_id),
            kind=trace.SpanKind.CONSUMER,
            attributes={
                "cloaca.workflow": work.workflow_name,
                "cloaca.execution_id": work.execution_id,
                "cloaca.task_id": work.task_id,
                "cloaca.attempt": work.attempt,
            },
        )

    def __enter__(self) -> AttemptSpan:
        from opentelemetry import context, trace

        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, *error: object) -> None:
        from opentelemetry import context

        context.detach(self._token)
        self._span.end()

    def note(self, outcome: Outcome) -> None:
        """Records the outcome of the attempt in the span."""
        self._span.set_attribute("cloaca.outcome", outcome.kind)
        if outcome.kind == "failed":
            self._span.add_event(
                "exception",
                {
                    "exception.type": outcome.type or "",
                    "exception.message": outcome.message or "",
                    "exception.stacktrace": outcome.traceback or "",
                },
            )
            _mark(self._span, False, f"{outcome.type}: {outcome.message}")
        elif outcome.kind == "completed":
            _mark(self._span, True, "")


def step_span(tracer: Tracer, key: str) -> Any:
    """Returns a span for the call of a step's function, as a context manager."""
    return tracer.start_as_current_span(f"step {key}", attributes={"cloaca.step": key})


def _mark(span: Span, is_good: bool, description: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_status(
        Status(StatusCode.OK) if is_good else Status(StatusCode.ERROR, description or None)
    )
