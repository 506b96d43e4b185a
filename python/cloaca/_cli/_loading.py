"""Loading the user's code."""

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


def load(name: str) -> ModuleType:
    """Imports a module by its name, also from the current folder, or by the path of its file.

    Raises:
        click.ClickException: It does not exist, or its import fails.
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
        raise click.ClickException(_told(f"module '{name}' cannot be imported", error)) from None
    except (Exception, SystemExit) as error:
        raise click.ClickException(_told(f"module '{name}' cannot be imported", error)) from None


def call(module: str, name: str, function: Callable[[], object]) -> None:
    """Calls a user's function that defines workflows.

    Raises:
        click.ClickException: It fails.
    """
    try:
        function()
    except (Exception, SystemExit) as error:
        raise click.ClickException(_told(f"'{name}' of module '{module}' failed", error)) from None


def _told(what: str, error: BaseException) -> str:
    """The error of the user's code, with the line that raised it."""
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
    told = f"{what}: {type(error).__name__}: {message}{place}"
    return f"{told}\nhint: {hint}" if hint else told


def attribute(module: ModuleType, path: str) -> Any:
    """Returns an attribute of a module, by its dotted name; `None` if it does not exist."""
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def workflow_name(module: ModuleType, wanted: str) -> str:
    """Returns the workflow named by `module:wanted`: a workflow's name, or a variable.

    Raises:
        click.ClickException: There is none.
    """
    from cloaca._values.suggestion import suggestion
    from cloaca._workflows.registry import registry
    from cloaca._workflows.workflow import Workflow

    known = sorted(workflow.name for workflow in registry.workflows_since(0)[1])
    if wanted in known:
        return wanted
    held = attribute(module, wanted)
    if isinstance(held, Workflow):
        return held.name
    name = getattr(held, "name", None)
    if isinstance(name, str) and name in known:
        return name  # a builder
    hint = suggestion(wanted, known, listing=True) or "it defines none"
    raise click.ClickException(
        f"module '{module.__name__}' defines no workflow '{wanted}'\nhint: {hint}"
    )
