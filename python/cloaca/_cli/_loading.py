"""Loads the user's modules and finds the workflows in them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any


def split(target: str) -> tuple[str, str | None]:
    """Splits `MODULE:NAME` into the module and the name, which is `None` if it is missing.

    Raises:
        click.UsageError: The module's name is missing.
    """
    module, _, name = (part.strip() for part in target.partition(":"))
    if not module:
        raise click.UsageError(
            f"the module's name is missing in '{target}'\nhint: give MODULE:{name or 'WORKFLOW'}"
        )
    return module, name or None


def load(name: str) -> ModuleType:
    """Imports a module by its name or by the path of its file.

    A module of the current folder can be imported by its name.

    Raises:
        click.ClickException: The module does not exist, or its import fails.
    """
    from importlib import import_module

    here = str(Path.cwd())
    if name.endswith(".py"):
        path = Path(name).resolve()
        here, name = str(path.parent), path.stem
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise click.ClickException(
                f"there is no module '{name}' here ({here}) or on Python's path"
            ) from None
        raise click.ClickException(
            _error_text(f"module '{name}' cannot be imported", error)
        ) from None
    except (Exception, SystemExit) as error:
        raise click.ClickException(
            _error_text(f"module '{name}' cannot be imported", error)
        ) from None


def call(module: str, name: str, function: Callable[[], object]) -> None:
    """Calls a user's function that defines workflows.

    Raises:
        click.ClickException: The function fails.
    """
    try:
        function()
    except (Exception, SystemExit) as error:
        raise click.ClickException(
            _error_text(f"'{name}' of module '{module}' failed", error)
        ) from None


def _error_text(what: str, error: BaseException) -> str:
    """Returns the message of an error that the user's code raised, with the file and the line."""
    import traceback

    own = f"{Path(__file__).parent.parent}{os.sep}"
    trace = traceback.extract_tb(error.__traceback__)
    frames = [
        frame
        for frame in trace
        if "importlib" not in frame.filename and not frame.filename.startswith(own)
    ]
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    message, _, hint = str(error).partition("\nhint: ")
    text = f"{what}: {type(error).__name__}: {message}{place}"
    return f"{text}\nhint: {hint}" if hint else text


def attribute(module: ModuleType, path: str) -> Any:
    """Returns the attribute at a dotted path in a module; `None` if it does not exist."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def find_workflow(module: ModuleType, wanted: str) -> str | None:
    """Returns the name of the workflow that `module:wanted` refers to; `None` if there is none.

    Args:
        module: The module.
        wanted: The name of a workflow, or of a variable that contains the workflow or its builder.
    """
    from cloaca._workflows.function import defined_workflow
    from cloaca._workflows.registry import registry

    if registry.has_workflow(wanted):
        return wanted
    name = defined_workflow(attribute(module, wanted))
    return name if name is not None and registry.has_workflow(name) else None


def workflow_name(module: ModuleType, wanted: str) -> str:
    """Returns the name of the workflow that `module:wanted` refers to; see `find_workflow`.

    Raises:
        click.ClickException: `module:wanted` does not refer to a workflow.
    """
    from cloaca._values.suggestion import suggestion
    from cloaca._workflows.registry import registry

    name = find_workflow(module, wanted)
    if name is not None:
        return name
    known = sorted(workflow.name for workflow in registry.workflows_since(0)[1])
    hint = suggestion(wanted, known, listing=True) or "define one with cloaca.WorkflowBuilder"
    raise click.ClickException(
        f"module '{module.__name__}' defines no workflow '{wanted}'\nhint: {hint}"
    )


def define_workflows(module: ModuleType, wanted: str) -> None:
    """Calls the function `module:wanted`, which defines workflows.

    Does nothing if `module:wanted` already refers to a workflow.

    Raises:
        click.ClickException: `module:wanted` refers to neither a workflow nor a function that can
            define workflows, or the function fails.
    """
    from cloaca._tasks.references import tasks_of

    if find_workflow(module, wanted) is not None:
        return
    found = attribute(module, wanted)
    name = module.__name__
    if found is None:
        raise click.ClickException(
            f"module '{name}' defines no workflow '{wanted}' and has no attribute '{wanted}'\n"
            "hint: name a workflow, or a function that defines workflows, or give only the module"
        )
    if tasks_of(found):
        raise click.ClickException(
            f"'{wanted}' of module '{name}' is a task, not a workflow\n"
            "hint: give the name of its workflow, or only the module"
        )
    if isinstance(found, type) or not callable(found):
        raise click.ClickException(
            f"'{wanted}' of module '{name}' is neither a workflow nor a function that defines "
            "workflows\n"
            "hint: name a workflow, or a function that defines workflows, or give only the module"
        )
    call(name, wanted, found)
