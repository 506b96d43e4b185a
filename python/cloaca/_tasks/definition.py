"""A task as this process knows it: the stored definition and the function."""

from __future__ import annotations

from cloaca._core import TaskHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloaca._retry.policy import RetryPolicy
    from cloaca._tasks.signature import Call
    from cloaca._tasks.trigger_rule import TriggerRule


class TaskOptions:
    """The validated options of `task` and `external_task`, without id and dependencies."""

    __slots__ = (
        "max_context_bytes",
        "on_failure",
        "on_success",
        "policy",
        "priority",
        "rule",
        "timeout_us",
    )

    def __init__(
        self,
        *,
        policy: RetryPolicy,
        rule: TriggerRule | None,
        timeout_us: int | None,
        priority: int | None,
        max_context_bytes: int | None,
        on_success: Callable[..., object] | None,
        on_failure: Callable[..., object] | None,
    ) -> None:
        self.policy = policy
        self.rule = rule
        self.timeout_us = timeout_us
        self.priority = priority
        self.max_context_bytes = max_context_bytes
        self.on_success = on_success
        self.on_failure = on_failure


class TaskDefinition:
    """A task. `function` and `call` are `None` if another program runs it."""

    __slots__ = ("_fingerprint", "call", "dependencies", "function", "handler", "id", "options")

    def __init__(
        self,
        id: str,
        dependencies: tuple[str, ...],
        options: TaskOptions,
        function: Callable[..., Any] | None = None,
        call: Call | None = None,
    ) -> None:
        self.id = id
        self.dependencies = dependencies
        self.options = options
        self.function = function
        self.call = call
        #: The number under which the engine knows the function; given at registration.
        self.handler: int | None = None
        self._fingerprint: str | None = None

    @property
    def kind(self) -> str:
        """The kind of its executor, as the engine names it."""
        if self.call is None:
            return "external"
        return "async" if self.call.is_async else "sync"

    @property
    def fingerprint(self) -> str:
        """A hash of the function's code; computed on first access."""
        if self.function is None:
            return ""
        if self._fingerprint is None:
            from cloaca._tasks.fingerprint import fingerprint

            self._fingerprint = fingerprint(self.function)
        return self._fingerprint

    def core_handler(self) -> TaskHandler | None:
        """The engine's handler of the task; `None` if this program does not run it."""
        if self.handler is None:
            return None
        return TaskHandler(
            "loop" if self.kind == "async" else "threads",
            self.handler,
            self.options.on_success is not None,
            self.options.on_failure is not None,
        )

    def to_definition(self) -> dict[str, Any]:
        """The task as the engine reads it."""
        options = self.options
        data: dict[str, Any] = {
            "id": self.id,
            "dependencies": list(self.dependencies),
            "retry": options.policy._to_definition(),
            "kind": self.kind,
            "fingerprint": self.fingerprint,
        }
        if options.rule is not None:
            data["rule"] = options.rule._to_definition()
        if options.timeout_us is not None:
            data["timeout"] = options.timeout_us
        if options.priority is not None:
            data["priority"] = options.priority
        if options.max_context_bytes is not None:
            data["max_context_bytes"] = options.max_context_bytes
        return data
