"""Lines that mypy and pyright must refuse.

If a checker accepts a line, it reports the line's `type: ignore` comment as unused. `make check`
then fails for mypy, and `tests/test_type_checkers.py` for pyright.
"""

from __future__ import annotations

import cloaca


@cloaca.task
def count() -> int:
    return 1


@cloaca.task
def takes_text(count: str = cloaca.result(count)) -> None: ...  # type: ignore[assignment]


def open_number() -> int:
    return 1


@cloaca.task
def takes_number(number: str = cloaca.resource(open_number)) -> None: ...  # type: ignore[assignment]


takes_text(3)  # type: ignore[arg-type]
cloaca.result(3)  # type: ignore[call-overload]
cloaca.resource(3)  # type: ignore[call-overload]
cloaca.WorkflowBuilder("w", input=3)  # type: ignore[arg-type]
cloaca.WorkflowBuilder("w", output=3)  # type: ignore[arg-type]
cloaca.group("g", dependencies=[3])  # type: ignore[list-item]


def use_typed(result: cloaca.WorkflowResult) -> str:
    return result.of(count)  # type: ignore[return-value]
