"""Restarts a worker when one of its source files changes."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from cloaca._cli._output import note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca._runner.runner import DefaultRunner

# Seconds between two checks of the files.
_INTERVAL = 0.5
# The search for source files ends when it has found more files than this.
_MAX_FILES = 2000


class Reloader:
    """Watches the source files of a program, and executes the program again if a file changes.

    The new program runs in the same process (`exec`), so a supervisor does not notice the restart.
    """

    def __init__(self, targets: tuple[str, ...]) -> None:
        self._targets = targets
        #: The file that has changed; `None` until a change is noticed.
        self.changed: str | None = None
        # These times are read before the modules load, so that a change while they load is noticed.
        self._before = _times(self._neighbours())

    def watch(self, runner: DefaultRunner) -> None:
        """Shuts the runner down gracefully when a loaded file changes."""
        files = _loaded()
        times = {name: self._before.get(name, time) for name, time in _times(files).items()}

        def shut_down_on_change() -> None:
            pause = threading.Event()
            while not runner._core.closed:
                self.changed = _changed(times)
                if self.changed is not None:
                    note(
                        f"{self.changed} has changed: starting again when the running tasks "
                        "have finished"
                    )
                    runner._shutdown_request.make()
                    return
                pause.wait(_INTERVAL)

        threading.Thread(target=shut_down_on_change, name="cloaca-reload", daemon=True).start()

    def wait(self) -> None:
        """Waits until a source file changes. Called if a module could not be loaded."""
        note("waiting for a source file to change")
        pause = threading.Event()
        while (changed := _changed(self._before)) is None:
            pause.wait(_INTERVAL)
        self.changed = changed
        note(f"{changed} has changed: starting again")

    def restart(self) -> None:
        """Executes the program again in this process, with the same arguments."""
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _neighbours(self) -> set[str]:
        """Returns the source files in the targets' folders and in the subfolders."""
        folders = {
            Path(module).resolve().parent if module.endswith(".py") else Path.cwd()
            for module in (target.partition(":")[0] for target in self._targets)
        }
        found: set[str] = set()
        for folder in folders:
            for parent, names, files in os.walk(folder):
                names[:] = [name for name in names if not name.startswith((".", "__"))]
                found |= {str(Path(parent) / name) for name in files if name.endswith(".py")}
                if len(found) > _MAX_FILES:
                    return found
        return found


def _loaded() -> set[str]:
    """Returns the source files of the loaded modules.

    Modules of cloaca, of installed packages and of the standard library are left out.
    """
    installed = tuple({sys.prefix, sys.base_prefix, str(Path(os.__file__).parent)})
    own = str(Path(__file__).parent.parent)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {
        file
        for file in files
        if file is not None
        and file.endswith(".py")
        and not file.startswith((own, *(f"{folder}{os.sep}" for folder in installed)))
    }


def _times(files: set[str]) -> dict[str, int]:
    return {file: _time(file) for file in files}


def _time(file: str) -> int:
    try:
        return Path(file).stat().st_mtime_ns
    except OSError:
        return 0


def _changed(times: dict[str, int]) -> str | None:
    """Returns a file whose modification time differs from the given time, or `None`."""
    return next((file for file, time in times.items() if _time(file) != time), None)
