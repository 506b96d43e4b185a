"""Calls that start a task in other tools, like `delay()`. Here they raise an error with a hint."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class _ForeignCall:
    """A call that only other tools support. Python's own error for it would have no hint."""

    __slots__ = ("_hint", "_name")

    def __init__(self, name: str, hint: str) -> None:
        self._name = name
        self._hint = hint

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise AttributeError(f"a task has no {self._name}()\nhint: {self._hint}")


_START = "a task runs in a workflow: runner.submit('name', {...}) or runner.execute('name', {...})"
#: The calls, by attribute name. All tasks' functions share these objects.
FOREIGN_CALLS = {
    "delay": _ForeignCall("delay", _START),
    "apply_async": _ForeignCall("apply_async", _START),
    "submit": _ForeignCall("submit", _START),
    "map": _ForeignCall("map", "a task that runs once per element: @cloaca.task(over='items')"),
}
