"""Starting a worker again when one of its source files changes."""

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
# The search for source files to watch stops once it has found more than this.
_MAX_FILES = 2000


class Reloader:
    """Watches the source files of a program, and replaces its process with a new one.

    The process keeps its id, so its supervisor does not notice.
    """

    def __init__(self, targets: tuple[str, ...]) -> None:
        self._targets = targets
        #: The file whose change was seen.
        self.changed: str | None = None
        # Read before the modules are loaded, so that a change during the loading is noticed.
        self._before = _times(self._neighbours())

    def watch(self, runner: DefaultRunner) -> None:
        """Shuts the runner down gracefully once a loaded file changes."""
        files = _loaded()
        times = {name: self._before.get(name, time) for name, time in _times(files).items()}

        def look() -> None:
            pause = threading.Event()
            while not runner._core.closed:
                self.changed = _changed(times)
                if self.changed is not None:
                    note(f"{self.changed} has changed: starting again after the running tasks")
                    runner._shutdown_request.make()
                    return
                pause.wait(_INTERVAL)

        threading.Thread(target=look, name="cloaca-reload", daemon=True).start()

    def wait(self) -> None:
        """Waits for a change, after a module could not be loaded."""
        note("waiting for a change of a source file")
        pause = threading.Event()
        while (changed := _changed(self._before)) is None:
            pause.wait(_INTERVAL)
        self.changed = changed
        note(f"{changed} has changed: starting again")

    def restart(self) -> None:
        """Replaces this process with a new one that has the same arguments."""
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])

    def _neighbours(self) -> set[str]:
        """The source files in the folders of the targets."""
        folders = {
            Path(module).resolve().parent if module.endswith(".py") else Path.cwd()
            for module in (target.partition(":")[0] for target in self._targets)
        }
        found: set[str] = set()
        for folder in folders:
            for place, names, files in os.walk(folder):
                names[:] = [name for name in names if not name.startswith((".", "__"))]
                found |= {str(Path(place) / name) for name in files if name.endswith(".py")}
                if len(found) > _MAX_FILES:
                    return found
        return found


def _loaded() -> set[str]:
    """The source files of the loaded modules, without installed ones and the standard library."""
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
    """Returns a file whose time differs from the given one, or `None`."""
    return next((file for file, time in times.items() if _time(file) != time), None)
