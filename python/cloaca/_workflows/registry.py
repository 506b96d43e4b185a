"""The definitions of a process: workflows, tasks outside of any workflow, and triggers.

The registry also keeps track of the live runners, and notifies them of every new definition.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock

# `weakref` re-exports this class, but importing `weakref` takes a millisecond.
from _weakref import ref
from contextvars import ContextVar

from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import Token
    from types import FrameType
    from typing import Any, Protocol

    from cloaca._core import Runner, Work
    from cloaca._tasks.definition import TaskDefinition
    from cloaca._values.exceptions import WorkflowNotFoundError
    from cloaca._workflows.trigger_definition import TriggerDefinition
    from cloaca._workflows.workflow import Workflow

    class OpenBuilder(Protocol):
        """The attributes of a `WorkflowBuilder` that tasks and groups in its block use."""

        _definitions: dict[str, TaskDefinition]
        _prefix: str

        @property
        def name(self) -> str: ...
        def _add_definition(self, task: TaskDefinition) -> None: ...
        def _open_group(self, group: Any) -> None: ...
        def _close_group(self, group: Any) -> None: ...

    class LiveRunner(Protocol):
        """The attributes of a `DefaultRunner` that the registry and the exit handler use."""

        _core: Runner

        def _catch_up(self, *, quietly: bool = False) -> None: ...
        def _close_at_exit(self, grace: float) -> None: ...


class DefinitionSite:
    """The line at which a program defines a workflow."""

    __slots__ = ("_code", "_function", "file", "line")

    def __init__(self, frame: FrameType) -> None:
        """Store the line that a frame is executing."""
        code = frame.f_code
        self.file = code.co_filename
        self.line = frame.f_lineno
        self._function = code.co_qualname
        self._code = ref(code)

    def is_second(self, earlier: DefinitionSite) -> bool:
        """Return whether this and `earlier` are two definitions, not one definition that ran twice.

        The result is false if one definition ran twice, for example because the module was loaded
        again. It is also false for definitions inside tests and their helper functions, which may
        define workflows with the same name.
        """
        functions = {self._function, earlier._function}
        if self._code() is earlier._code():
            is_second = self.line != earlier.line
        else:
            is_second = len(functions) > 1
        return is_second and (functions == {"<module>"} or not _are_of_tests(functions))


def _are_of_tests(functions: set[str]) -> bool:
    """Returns whether functions belong to tests: pytest is running, or a name contains "test"."""
    is_in_pytest = "_pytest" in sys.modules and "PYTEST_CURRENT_TEST" in os.environ
    return is_in_pytest or any("test" in name.lower() for name in functions)


_builder: ContextVar[OpenBuilder | None] = ContextVar("cloaca_builder", default=None)


class WorkflowRegistry:
    """The definitions of a process. Every method may be called from any thread."""

    def __init__(self) -> None:
        # Reentrant, because a finalizer may use the registry while its thread holds the lock.
        self._lock = RLock()
        self._workflows: dict[str, Workflow] = {}
        # The number of definitions when a workflow was defined, by workflow.
        self._workflow_revisions: dict[str, int] = {}
        self._loose: dict[str, TaskDefinition] = {}
        # The tasks that this process runs for workflows of other programs, by workflow and id.
        self._served: dict[tuple[str, str], tuple[int, TaskDefinition]] = {}
        # The live runners, by `id(runner)`. Changed without the lock, because a finalizer that
        # shuts down a runner may run at any point of a thread.
        self._runners: dict[int, ref[LiveRunner]] = {}
        # All runners, including those that are shut down, because their last tasks may still run.
        self._owners: dict[int, ref[LiveRunner]] = {}
        # The lines at which the workflows were defined, by workflow.
        self._sites: dict[str, DefinitionSite] = {}
        # The names of builders that have not registered a workflow.
        self._unregistered: set[str] = set()
        # All tasks with functions, including replaced tasks, because queued work may still refer to
        # them. The index of a task is its handler's number.
        self._handlers: list[TaskDefinition] = []
        self._triggers: list[TriggerDefinition] = []
        self._trigger_revisions: dict[str, tuple[int, int]] = {}
        # The number of definitions so far. To detect new definitions, a runner compares this number
        # with the one that it last read. Each submission makes this comparison, and reading an
        # attribute is faster than calling a property.
        self.revision = 0

    def current_builder(self) -> OpenBuilder | None:
        """Return the builder whose `with` block the caller is in."""
        return _builder.get()

    def enter(self, builder: OpenBuilder) -> Token[OpenBuilder | None]:
        """Begins a builder's `with` block."""
        return _builder.set(builder)

    def leave(self, token: Token[OpenBuilder | None]) -> None:
        """Ends a builder's `with` block."""
        try:
            _builder.reset(token)
        except ValueError:
            # Some test fixtures enter and leave the block in different `contextvars` contexts.
            _builder.set(None)

    def add_loose_task(self, task: TaskDefinition) -> None:
        """Stores a task for builders to add. The task replaces an earlier one with the same id."""
        with self._lock:
            # This variable keeps the replaced task alive, so that its finalizers run after the lock
            # is released.
            _replaced = self._loose.get(task.id)
            self._loose[task.id] = task

    def loose_task(self, id: str) -> TaskDefinition | None:
        """Return the task that has this id and was defined outside of any workflow, or `None`."""
        return self._loose.get(id)

    def suggest_task(self, id: str) -> str | None:
        """Return a hint for an unknown id."""
        return suggestion(id, list(self._loose))

    def note_builder(self, name: str) -> None:
        """Records that a builder was created, for `explain_unknown`."""
        with self._lock:
            if name not in self._workflows:
                self._unregistered.add(name)

    def explain_unknown(self, error: WorkflowNotFoundError) -> None:
        """Changes the hint of an error if a builder of the unknown workflow was not registered."""
        with self._lock:
            names = list(self._unregistered)
        for name in names:
            if f"workflow '{name}'" in error.message:
                error.hint = (
                    f"a WorkflowBuilder('{name}') was made, but not registered: use it in a 'with' "
                    f"block, or call register_workflow_constructor('{name}', builder.build)"
                )

    def add_workflow(self, workflow: Workflow, site: DefinitionSite) -> None:
        """Stores a workflow, which replaces an earlier workflow with the same name.

        Notifies the live runners (semantics A3).

        Args:
            workflow: The workflow.
            site: The line that defines the workflow.

        Raises:
            WorkflowValidationError: The workflow would start itself again through its children,
                without end.
        """
        name = workflow.name
        self._refuse_cycle(workflow)
        before = self._sites.get(name, site)
        if before.file != site.file:
            _warn_of_replacement(name, before.file, site.file)
        elif name in self._workflows and workflow.version != self._workflows[name].version:
            _tell_of_replacement(name, before, site)
        with self._lock:
            self._unregistered.discard(name)
            self._sites[name] = site
            for task in [*workflow._definitions.values(), *workflow._finals.values()]:
                self._give_handler(task)
            self.revision += 1
            # This variable keeps the replaced workflow alive, so that its finalizers run after the
            # lock is released.
            _replaced = self._workflows.get(name)
            self._workflows[name] = workflow
            self._workflow_revisions[name] = self.revision
        for runner in self.runners():
            runner._catch_up(quietly=True)

    def _refuse_cycle(self, workflow: Workflow) -> None:
        """Refuses a workflow that would always start itself again through its children (M7)."""
        name = workflow.name
        open: list[list[str]] = [[name, child] for child in workflow._core.always_runs]
        seen: set[str] = set()
        while open:
            path = open.pop()
            if path[-1] == name:
                from cloaca._values.exceptions import WorkflowValidationError

                cycle = "' -> '".join(path)
                raise WorkflowValidationError(
                    f"workflow '{name}' would run itself without end: '{cycle}'",
                    hint="give a node of the cycle a trigger rule that ends the cycle",
                )
            known = self.workflow(path[-1])
            if known is not None and path[-1] not in seen:
                seen.add(path[-1])
                open.extend([*path, child] for child in known._core.always_runs)

    def serve(self, workflow: str, task: TaskDefinition) -> None:
        """Stores a task of a workflow that another program defines.

        The task replaces an earlier task with the same workflow and id. Notifies the live runners.
        """
        with self._lock:
            self._give_handler(task)
            self.revision += 1
            self._served[workflow, task.id] = (self.revision, task)
        for runner in self.runners():
            runner._catch_up(quietly=True)

    def _give_handler(self, task: TaskDefinition) -> None:
        if task.function is not None and task.handler is None:
            task.handler = len(self._handlers)
            self._handlers.append(task)

    def workflows_since(self, revision: int) -> tuple[int, list[Workflow]]:
        """Return the current revision, and the workflows defined after `revision`, oldest first."""
        with self._lock:
            defined = self._workflow_revisions
            names = sorted(
                (name for name in defined if defined[name] > revision), key=defined.__getitem__
            )
            return self.revision, [self._workflows[name] for name in names]

    def served_since(self, revision: int) -> list[tuple[str, TaskDefinition]]:
        """Return the tasks defined after `revision` that belong to workflows of other programs."""
        with self._lock:
            return [
                (workflow, task)
                for (workflow, _), (defined, task) in self._served.items()
                if defined > revision
            ]

    def workflow(self, name: str) -> Workflow | None:
        """Return the workflow that has this name, or `None` if this process has not defined it."""
        return self._workflows.get(name)

    def all_workflows(self) -> list[Workflow]:
        """Return the workflows that this process has defined."""
        with self._lock:
            return list(self._workflows.values())

    def has_workflow(self, name: str) -> bool:
        """Return whether this process has defined a workflow with this name."""
        return name in self._workflows

    def add_trigger(self, trigger: TriggerDefinition) -> None:
        """Stores a trigger, which replaces an earlier trigger with the same name.

        Notifies the live runners.
        """
        with self._lock:
            self._triggers.append(trigger)
            self.revision += 1
            self._trigger_revisions[trigger.name] = (self.revision, len(self._triggers) - 1)
        for runner in self.runners():
            runner._catch_up(quietly=True)

    def triggers_since(self, revision: int) -> list[tuple[int, TriggerDefinition]]:
        """Return the triggers defined after `revision`, each with its function's number."""
        with self._lock:
            found = sorted(
                entry for entry in self._trigger_revisions.values() if entry[0] > revision
            )
            return [(handler, self._triggers[handler]) for _, handler in found]

    def trigger(self, handler: int) -> TriggerDefinition:
        """Return the trigger whose function has the number `handler`."""
        return self._triggers[handler]

    def task(self, handler: int) -> TaskDefinition:
        """Return the task whose handler has the number `handler`."""
        return self._handlers[handler]

    def add_runner(self, runner: LiveRunner) -> None:
        """Adds a runner, which will be notified of later definitions."""
        key = id(runner)

        def forget(_: object) -> None:
            self._runners.pop(key, None)
            self._owners.pop(key, None)

        self._owners[key] = self._runners[key] = ref(runner, forget)

    def remove_runner(self, runner: LiveRunner) -> None:
        """Removes a runner that is shut down."""
        self._runners.pop(id(runner), None)

    def runner_of(self, work: Work) -> LiveRunner | None:
        """Return the runner of a piece of work; `None` if the program has dropped the runner."""
        return next((owner for owner in _alive(self._owners) if owner._core.runs(work)), None)

    def runners(self) -> list[LiveRunner]:
        """Return the live runners."""
        return _alive(self._runners)

    def after_fork(self) -> None:
        """Resets the registry in a forked child.

        Removes the runners, which exist only in the parent process, and replaces the lock, which a
        thread of the parent may have held.
        """
        self._lock = RLock()
        self._runners = {}
        self._owners = {}


def _alive(runners: dict[int, ref[LiveRunner]]) -> list[LiveRunner]:
    """Returns the runners that the program has not dropped."""
    return [runner for kept in list(runners.values()) if (runner := kept()) is not None]


def _warn_of_replacement(name: str, before: str, after: str) -> None:
    """Warns that a workflow replaces a workflow of another file, which is rarely intended.

    Cells of a notebook cause no warning, because running a cell again is the way to change its
    workflow.
    """
    from pathlib import Path

    files = Path(before), Path(after)
    if not all(file.is_file() for file in files) or files[0].samefile(files[1]):
        return
    from cloaca._values.package_logger import logger

    logger().warning(
        "workflow '%s' in %s is replaced with the workflow of the same name in %s; "
        "hint: give one of them another name",
        name,
        before,
        after,
    )


def _tell_of_replacement(name: str, before: DefinitionSite, after: DefinitionSite) -> None:
    """Logs that a file defines a workflow again, with another version.

    Two definitions at different lines of a file are rarely intended, so they cause a warning. Any
    other repetition is probably intended, for example in a notebook or in tests, and is logged as
    information.
    """
    from pathlib import Path

    from cloaca._values.package_logger import logger

    if after.is_second(before) and Path(after.file).is_file():
        logger().warning(
            "workflow '%s' is defined at %s:%d and again at %s:%d; the later one replaces the "
            "earlier one; hint: give one of them another name",
            name,
            before.file,
            before.line,
            after.file,
            after.line,
        )
        return
    logger().info("workflow '%s' is defined again; this definition replaces the earlier one", name)


registry = WorkflowRegistry()
