"""Passes the log records of a web service to Python's `logging`."""

from __future__ import annotations

import threading

from cloaca._observe.logger import write
from cloaca._values.visible_text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca import _core


def write_log(log: _core.WebLog) -> None:
    """Starts a thread that logs the records of a service until the service ends."""
    # A daemon thread, because it waits in Rust, where the interpreter's exit cannot wake it.
    threading.Thread(target=_write_all, args=(log,), name="cloaca-web-log", daemon=True).start()


def _write_all(log: _core.WebLog) -> None:
    while records := log.wait():
        for record in records:
            # A record may contain names that callers choose. Without line breaks, a name cannot
            # imitate another record.
            fields = {
                name: _on_one_line(value) if isinstance(value, str) else value
                for name, value in record.fields.items()
            }
            try:
                write(record.level, record.target, _on_one_line(record.message), fields)
            except Exception:
                # A log handler of the program raised an exception; the next records are written.
                continue


def _on_one_line(text: str) -> str:
    return visible(text).replace("\n", "\\n")
