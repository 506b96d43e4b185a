"""A task of this process: its definition, which is also stored, and its function."""

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
    """The validated options of `task` and `external_task`, except the id and the dependencies."""

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
    """A task. `function` and `signature` are `None` if another program or the engine runs the task.

    `call` is `None` until the task is bound to a workflow: the sources of its parameters depend on
    the workflow's other tasks and its input.
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
        #: The key of the task's result, if the key is not the id.
        self.output = output
        #: The prefix of the task's group, such as `section.`; empty outside of groups.
        self.group = group
        #: The trigger rule. In a workflow with groups it contains the full names of tasks.
        self.rule = options.rule
        self.call: Call | None = None
        #: The call in the workflow to which the task was last bound, for tests that run the task.
        self.last_call: Call | None = None
        #: For a mapped task: the key of the list that each parameter takes its elements from.
        self.lists: Mapping[str, str] | None = None
        #: The number by which the engine knows the function; set at registration.
        self.handler: int | None = None

    def bound(
        self,
        call: Call | None,
        dependencies: tuple[str, ...],
        lists: Mapping[str, str] | None = None,
        rule: TriggerRule | None = None,
    ) -> TaskDefinition:
        """Return a copy of the task that is bound to a workflow.

        Args:
            call: The call of the function; `None` if another program or the engine runs the task.
            dependencies: The declared dependencies, and the dependencies that parameters add.
            lists: For a mapped task: the key of the list that each parameter takes its elements
                from.
            rule: The trigger rule, if its names of tasks differ from the names in the options.
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
        """The key of the context that holds the task's result."""
        return self.id if self.output is None else self.output

    @property
    def returns_value(self) -> bool:
        """Whether the task is a value task: its function's return value is stored as its result."""
        return self.call is not None and self.call.result_key is not None

    @property
    def kind(self) -> str:
        """The engine's name for the executor: `sync`, `async`, `external` or `engine`."""
        if self.signature is None:
            wait = self.options.wait
            return "engine" if wait is not None and wait.is_node else "external"
        return "async" if self.signature.is_async else "sync"

    @property
    def fingerprint(self) -> str:
        """The hash of the function's code, computed on first access; empty without a function."""
        return "" if self.signature is None else self.signature.fingerprint

    def core_handler(self) -> TaskHandler | None:
        """Return the engine's handler of the task; `None` if this program does not run it."""
        if self.handler is None:
            return None
        return TaskHandler(
            "loop" if self.kind == "async" else "threads",
            self.handler,
            self.options.on_success is not None,
            self.options.on_failure is not None,
        )

    def to_definition(self) -> dict[str, Any]:
        """Return the task in the form that the engine reads."""
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
            # If `None` is not stored and the key is the id, the key is left out, so that the
            # definition is the same as in earlier releases.
            if key is not None and (self.call.keeps_none or key != self.id):
                data["result"] = key
            if self.call.sources:
                data["parameters"] = self.call.parameters()
        return data
