"""A task as this process knows it: the stored definition and the function."""

from __future__ import annotations

from cloaca._core import TaskHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from cloaca._retry.policy import RetryPolicy
    from cloaca._tasks.call import Call
    from cloaca._tasks.final_options import Compensation, FinalOptions
    from cloaca._tasks.map_options import MapOptions
    from cloaca._tasks.parameters import Signature
    from cloaca._tasks.trigger_rule import TriggerRule
    from cloaca._tasks.wait_options import WaitOptions


class TaskOptions:
    """The validated options of `task` and `external_task`, without id and dependencies."""

    __slots__ = (
        "compensation",
        "final",
        "map",
        "max_context_bytes",
        "on_failure",
        "on_success",
        "policy",
        "priority",
        "rule",
        "timeout_us",
        "wait",
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
        wait: WaitOptions | None = None,
        final: FinalOptions | None = None,
        compensation: Compensation | None = None,
        map: MapOptions | None = None,
    ) -> None:
        self.final = final
        self.compensation = compensation
        self.policy = policy
        self.rule = rule
        self.timeout_us = timeout_us
        self.priority = priority
        self.max_context_bytes = max_context_bytes
        self.on_success = on_success
        self.on_failure = on_failure
        self.wait = wait
        self.map = map


class TaskDefinition:
    """A task. `function` and `signature` are `None` if another program runs it.

    `call` is `None` until the task is bound to a workflow, because the meaning of its parameters
    depends on the workflow's other tasks and its input.
    """

    __slots__ = (
        "call",
        "dependencies",
        "function",
        "group",
        "handler",
        "id",
        "last_call",
        "lists",
        "options",
        "output",
        "rule",
        "signature",
    )

    def __init__(
        self,
        id: str,
        dependencies: tuple[str, ...],
        options: TaskOptions,
        function: Callable[..., Any] | None = None,
        signature: Signature | None = None,
        *,
        output: str | None = None,
        group: str = "",
    ) -> None:
        self.id = id
        self.dependencies = dependencies
        self.options = options
        self.function = function
        self.signature = signature
        #: The key of its result, if it is not the id.
        self.output = output
        #: The prefix of the ids of its group, such as `section.`; empty outside of groups.
        self.group = group
        #: The trigger rule; in a workflow with groups, with the full names of its tasks.
        self.rule = options.rule
        self.call: Call | None = None
        #: Its call in the workflow that it was bound to last, for a direct run in a test.
        self.last_call: Call | None = None
        #: By parameter, the key of the list that a mapped task runs over.
        self.lists: Mapping[str, str] | None = None
        #: The number under which the engine knows the function; given at registration.
        self.handler: int | None = None

    def bound(
        self,
        call: Call | None,
        dependencies: tuple[str, ...],
        lists: Mapping[str, str] | None = None,
        rule: TriggerRule | None = None,
    ) -> TaskDefinition:
        """Returns the task as a part of one workflow, in which its parameters have a meaning.

        Args:
            call: The arguments of the function; `None` if another program runs it.
            dependencies: The declared dependencies, and those that parameters add.
            lists: By parameter, the key of the list that a mapped task runs over.
            rule: The trigger rule, if it names tasks differently than the options do.
        """
        twin = TaskDefinition(
            self.id,
            dependencies,
            self.options,
            self.function,
            self.signature,
            output=self.output,
            group=self.group,
        )
        twin.call = self.last_call = call
        twin.lists = lists
        twin.rule = rule or self.rule
        return twin

    @property
    def result_key(self) -> str:
        """The key of the context that holds its result."""
        return self.id if self.output is None else self.output

    @property
    def returns_value(self) -> bool:
        """Whether its function's return value is a result of its own: a value task."""
        return self.call is not None and self.call.result_key is not None

    @property
    def kind(self) -> str:
        """The kind of its executor, as the engine names it."""
        if self.signature is None:
            wait = self.options.wait
            return "engine" if wait is not None and wait.is_node else "external"
        return "async" if self.signature.is_async else "sync"

    @property
    def fingerprint(self) -> str:
        """A hash of the function's code; computed on first access."""
        return "" if self.signature is None else self.signature.fingerprint

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
        if self.rule is not None:
            data["rule"] = self.rule._to_definition()
        if options.timeout_us is not None:
            data["timeout"] = options.timeout_us
        if options.priority is not None:
            data["priority"] = options.priority
        if options.max_context_bytes is not None:
            data["max_context_bytes"] = options.max_context_bytes
        if options.wait is not None:
            data.update(options.wait.to_definition())
            if options.wait.is_node:
                data["result"] = self.result_key
        if options.map is not None:
            data["over"] = options.map.to_definition(self.lists or {})
        if self.call is not None:
            key = self.call.result_key
            # A function that need not return a value keeps the definition of earlier releases.
            if key is not None and (self.call.keeps_none or key != self.id):
                data["result"] = key
            if self.call.sources:
                data["parameters"] = self.call.parameters()
        return data
