"""The definitions of a process: workflows, tasks outside of any workflow, and triggers.

The registry also knows the live runners, and notifies them of every new definition.
"""

from __future__ import annotations

from _thread import allocate_lock

# `weakref` has the classes from there, but takes a millisecond to import.
from _weakref import ref
from _weakrefset import WeakSet
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
        """The parts of a `WorkflowBuilder` that tasks of its block need."""

        _definitions: dict[str, TaskDefinition]
        _prefix: str

        @property
        def name(self) -> str: ...
        def _add_definition(self, task: TaskDefinition) -> None: ...
        def _open_group(self, group: Any) -> None: ...
        def _close_group(self, group: Any) -> None: ...

    class LiveRunner(Protocol):
        """The parts of a `DefaultRunner` that the registry and the end of the process need."""

        _core: Runner

        def _catch_up(self, *, quietly: bool = False) -> None: ...
        def _close_at_exit(self, grace: float) -> None: ...


class Place:
    """The place in a program where a workflow is defined."""

    __slots__ = ("_code", "_function", "file", "line")

    def __init__(self, frame: FrameType) -> None:
        """Note the line that a frame runs."""
        code = frame.f_code
        self.file = code.co_filename
        self.line = frame.f_lineno
        self._function = code.co_qualname
        self._code = ref(code)

    def follows(self, earlier: Place) -> bool:
        """Whether one run of a module reaches both places, the other one first.

        A function may define what another one has defined, as tests do. A module may be loaded
        again.
        """
        are_of_module = self._function == earlier._function == "<module>"
        return are_of_module and self._code() is earlier._code()


_builder: ContextVar[OpenBuilder | None] = ContextVar("cloaca_builder", default=None)


class WorkflowRegistry:
    """The definitions of a process. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._workflows: dict[str, tuple[int, Workflow]] = {}
        self._loose: dict[str, TaskDefinition] = {}
        # Tasks of workflows that other programs define, by workflow and id.
        self._served: dict[tuple[str, str], tuple[int, TaskDefinition]] = {}
        self._runners: WeakSet[LiveRunner] = WeakSet()
        # Also runners that are shut down, because their last tasks may still run.
        self._owners: WeakSet[LiveRunner] = WeakSet()
        # The places at which the workflows were defined.
        self._places: dict[str, Place] = {}
        # Names of builders that have registered nothing yet.
        self._unregistered: set[str] = set()
        # Every function that was ever registered, because queued work may still refer to a replaced
        # one.
        self._handlers: list[TaskDefinition] = []
        self._triggers: list[TriggerDefinition] = []
        self._trigger_revisions: dict[str, tuple[int, int]] = {}
        self._revision = 0

    @property
    def revision(self) -> int:
        """The number of definitions so far; a runner compares it to find new ones."""
        return self._revision

    def current_builder(self) -> OpenBuilder | None:
        """The builder whose `with` block the caller is in."""
        return _builder.get()

    def enter(self, builder: OpenBuilder) -> Token[OpenBuilder | None]:
        """Begins a builder's `with` block."""
        return _builder.set(builder)

    def leave(self, token: Token[OpenBuilder | None]) -> None:
        """Ends a builder's `with` block."""
        try:
            _builder.reset(token)
        except ValueError:
            # Some fixtures leave the block in another context than they entered it in.
            _builder.set(None)

    def add_loose_task(self, task: TaskDefinition) -> None:
        """Stores a task until a builder adds it. A later one of the same id replaces it."""
        with self._lock:
            self._loose[task.id] = task

    def loose_task(self, id: str) -> TaskDefinition | None:
        """The task of an id that was defined outside of any workflow."""
        return self._loose.get(id)

    def suggest_task(self, id: str) -> str | None:
        """A hint for an id that is not known."""
        return suggestion(id, list(self._loose))

    def note_builder(self, name: str) -> None:
        """Notes that a builder was made, for the error of a caller who never registers it."""
        with self._lock:
            if name not in self._workflows:
                self._unregistered.add(name)

    def explain_unknown(self, error: WorkflowNotFoundError) -> None:
        """Replaces the hint of an error if a builder of the unknown workflow was not registered."""
        with self._lock:
            names = list(self._unregistered)
        for name in names:
            if f"workflow '{name}'" in error.message:
                error.hint = (
                    f"a WorkflowBuilder('{name}') was made, but not registered: use it in a 'with' "
                    f"block, or call register_workflow_constructor('{name}', builder.build)"
                )

    def add_workflow(self, workflow: Workflow, place: Place) -> None:
        """Stores a workflow, replacing an earlier one of its name.

        Notifies the live runners (semantics A3).

        Args:
            workflow: The workflow.
            place: The place that defines it.

        Raises:
            WorkflowValidationError: It would run itself as a child of its children, without end.
        """
        name = workflow.name
        self._refuse_cycle(workflow)
        before = self._places.get(name, place)
        if before.file != place.file:
            _warn_of_replacement(name, before.file, place.file)
        elif name in self._workflows and workflow.version != self._workflows[name][1].version:
            _tell_of_replacement(name, before, place)
        with self._lock:
            self._unregistered.discard(name)
            self._places[name] = place
            for task in [*workflow._definitions.values(), *workflow._finals.values()]:
                self._give_handler(task)
            self._revision += 1
            self._workflows[workflow.name] = (self._revision, workflow)
            runners = list(self._runners)
        for runner in runners:
            runner._catch_up(quietly=True)

    def _refuse_cycle(self, workflow: Workflow) -> None:
        """Refuses a cycle of children without a condition (M7)."""
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
                    hint="give a node of the cycle a trigger rule that ends it",
                )
            known = self.workflow(path[-1])
            if known is not None and path[-1] not in seen:
                seen.add(path[-1])
                open.extend([*path, child] for child in known._core.always_runs)

    def serve(self, workflow: str, task: TaskDefinition) -> None:
        """Stores a task of a workflow that another program defines, replacing one with its id.

        Notifies the live runners.
        """
        with self._lock:
            self._give_handler(task)
            self._revision += 1
            self._served[workflow, task.id] = (self._revision, task)
            runners = list(self._runners)
        for runner in runners:
            runner._catch_up(quietly=True)

    def _give_handler(self, task: TaskDefinition) -> None:
        if task.function is not None and task.handler is None:
            task.handler = len(self._handlers)
            self._handlers.append(task)

    def workflows_since(self, revision: int) -> tuple[int, list[Workflow]]:
        """The workflows that were defined after a revision, oldest first, and the revision now."""
        with self._lock:
            found = sorted(
                (entry for entry in self._workflows.values() if entry[0] > revision),
                key=lambda entry: entry[0],
            )
            return self._revision, [workflow for _, workflow in found]

    def served_since(self, revision: int) -> list[tuple[str, TaskDefinition]]:
        """The tasks for workflows of other programs that were defined after a revision."""
        with self._lock:
            return [
                (workflow, task)
                for (workflow, _), (defined, task) in self._served.items()
                if defined > revision
            ]

    def workflow(self, name: str) -> Workflow | None:
        """The workflow of a name, if this process has defined it."""
        entry = self._workflows.get(name)
        return None if entry is None else entry[1]

    def all_workflows(self) -> list[Workflow]:
        """The workflows that this process has defined."""
        with self._lock:
            return [workflow for _, workflow in self._workflows.values()]

    def has_workflow(self, name: str) -> bool:
        """Whether this process has defined a workflow."""
        return name in self._workflows

    def add_trigger(self, trigger: TriggerDefinition) -> None:
        """Stores a trigger, replacing an earlier one of its name, and notifies the live runners."""
        with self._lock:
            self._triggers.append(trigger)
            self._revision += 1
            self._trigger_revisions[trigger.name] = (self._revision, len(self._triggers) - 1)
            runners = list(self._runners)
        for runner in runners:
            runner._catch_up(quietly=True)

    def triggers_since(self, revision: int) -> list[tuple[int, TriggerDefinition]]:
        """The triggers that were defined after a revision, with the numbers of their functions."""
        with self._lock:
            found = sorted(
                entry for entry in self._trigger_revisions.values() if entry[0] > revision
            )
            return [(handler, self._triggers[handler]) for _, handler in found]

    def trigger(self, handler: int) -> TriggerDefinition:
        """The trigger of a function's number."""
        return self._triggers[handler]

    def task(self, handler: int) -> TaskDefinition:
        """The task of a handler's number."""
        return self._handlers[handler]

    def add_runner(self, runner: LiveRunner) -> None:
        """Adds a runner, which is notified of all later definitions."""
        with self._lock:
            self._runners.add(runner)
            self._owners.add(runner)

    def remove_runner(self, runner: LiveRunner) -> None:
        """Removes a runner that is shut down."""
        with self._lock:
            self._runners.discard(runner)

    def runner_of(self, work: Work) -> LiveRunner | None:
        """The runner that work belongs to; `None` if the program has dropped it."""
        with self._lock:
            owners = list(self._owners)
        return next((owner for owner in owners if owner._core.runs(work)), None)

    def runners(self) -> list[LiveRunner]:
        """The live runners."""
        with self._lock:
            return list(self._runners)

    def after_fork(self) -> None:
        """Resets the registry in a forked child.

        Removes the runners, which exist only in the parent, and a lock that another thread may
        hold.
        """
        self._lock = allocate_lock()
        self._runners = WeakSet()
        self._owners = WeakSet()


def _warn_of_replacement(name: str, before: str, after: str) -> None:
    """Warns that a workflow replaces one of another file, which is rarely intended.

    Cells of a notebook are not files: there, a workflow is changed by replacing it.
    """
    from pathlib import Path

    files = Path(before), Path(after)
    if not all(file.is_file() for file in files) or files[0].samefile(files[1]):
        return
    from cloaca._values.package_logger import logger

    logger().warning(
        "workflow '%s' of %s is replaced by the workflow of the same name of %s; "
        "hint: give one of them another name",
        name,
        before,
        after,
    )


def _tell_of_replacement(name: str, before: Place, after: Place) -> None:
    """Logs that a file defines a workflow again, with another version.

    Two definitions at two lines of a module are rarely intended. A notebook, a function that is
    called twice, and tests define a workflow again to change it.
    """
    from pathlib import Path

    from cloaca._values.package_logger import logger

    is_mistake = before.line != after.line and after.follows(before)
    if is_mistake and Path(after.file).is_file():
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
    logger().info("workflow '%s' is defined again; this definition replaces the earlier", name)


registry = WorkflowRegistry()
