"""Annotations can name classes that are defined later, on every Python version (semantics J4).

Python 3.14 evaluates annotations lazily, and Python 3.12 added `type` statements. The tests use the
interpreter that runs them, and each of `python3.12` to `python3.15` that is in the path and can
import msgspec. `CLOACA_TEST_PYTHONS` names more interpreters, separated by colons. `make
test-pythons` installs interpreters and runs the tests with them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cloaca

PACKAGE = Path(cloaca.__file__).parent.parent

LATER = """
import cloaca
from dataclasses import dataclass

with cloaca.WorkflowBuilder("w"):
    class Holder: ...

    def make():
        @cloaca.task
        def load(n: "int", order: "Order | None" = None) -> "list[Order]":
            return [Order(n), Order(n + 1)]

        @cloaca.task
        def total(load: "list[Order]", handle: "cloaca.TaskHandle") -> "int":
            return sum(order.n for order in load)

    @dataclass
    class Order:
        n: int

    make()

with cloaca.DefaultRunner(":memory:") as runner:
    print(runner.execute("w", {"n": 1}, check=True).final_context["total"])
"""

POSTPONED = "from __future__ import annotations\n" + LATER.replace('"int"', "int").replace(
    '"list[Order]"', "list[Order]"
).replace('"Order | None"', "Order | None").replace('"cloaca.TaskHandle"', "cloaca.TaskHandle")

ONLY_CHECKED = """
from __future__ import annotations
import cloaca
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloaca import Context as Seen
    from decimal import Decimal

with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def first(context: Seen) -> Seen:
        context["n"] = 3

try:
    with cloaca.WorkflowBuilder("refused"):
        @cloaca.task
        def second(n: Decimal): ...
except cloaca.TaskValidationError as error:
    assert "import its names at run time, not only for type checkers" in str(error), error

with cloaca.DefaultRunner(":memory:") as runner:
    print(runner.execute("w", check=True).final_context["n"])
"""

ALIASES = """
import cloaca

type Orders = list[Order]
class Box[T]: ...

class Order:
    pass

with cloaca.WorkflowBuilder("w"):
    type Numbers = list[int]

    @cloaca.task
    def load(n: int) -> Numbers:
        return [n, n + 1]

    @cloaca.task
    def total(load: Numbers) -> int:
        return sum(load)

with cloaca.DefaultRunner(":memory:") as runner:
    print(runner.execute("w", {"n": 1}, check=True).final_context["total"])
"""

# Python 3.14 does not evaluate annotations when a function is defined, so they need no quotes.
UNQUOTED = LATER.replace('"', "'").replace("'int'", "int").replace("'list[Order]'", "list[Order]")
UNQUOTED = UNQUOTED.replace("'Order | None'", "Order | None")

# The names of classes that are local to a function are looked up in the frame that calls cloaca.
OF_A_FUNCTION = """
import cloaca
from dataclasses import dataclass

def main():
    @dataclass
    class Order:
        line: "Line"
        more: "list[Line]"

    @dataclass
    class Line:
        n: int

    with cloaca.WorkflowBuilder("w"):
        @cloaca.task
        def load(n: int) -> Order:
            return Order(Line(n), [Line(n + 1)])

        @cloaca.task
        def total(load: Order) -> int:
            return load.line.n + load.more[0].n

    with cloaca.DefaultRunner(":memory:") as runner:
        print(runner.execute("w", {"n": 1}, check=True).final_context["total"])

main()
"""

# Python 3.14 accepts this class, but reading the class's annotations fails.
FIELD_ONLY_CHECKED = """
import cloaca
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from decimal import Decimal

class Order(NamedTuple):
    price: Decimal

try:
    with cloaca.WorkflowBuilder("refused"):
        @cloaca.task
        def load(order: Order): ...
except cloaca.TaskValidationError as error:
    assert "parameter 'order'" in str(error), error
    assert "name 'Decimal' is not defined" in str(error), error
    print(3)
"""


def interpreters() -> list[str]:
    """Returns this interpreter, those in `CLOACA_TEST_PYTHONS`, and installed ones with msgspec."""
    names = [f"python3.{minor}" for minor in range(12, 16)]
    given = os.environ.get("CLOACA_TEST_PYTHONS", "").split(":")
    found = [sys.executable, *(path for path in given if path)]
    for path in filter(None, map(shutil.which, names)):
        check = [path, "-c", "import msgspec"]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            found.append(path)
    return found


def version(python: str) -> tuple[int, int]:
    code = "import sys; print(*sys.version_info[:2])"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    major, minor = told.stdout.split()
    return int(major), int(minor)


OPTIONAL = """
from typing import Annotated, Optional, Union
import cloaca

Handle = Optional[cloaca.TaskHandle]

with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def handles(
        a: Optional[cloaca.TaskHandle],
        b: Union[cloaca.TaskHandle, None],
        c: Union[None, "cloaca.TaskHandle"],
        d: Optional["cloaca.TaskHandle"],
        e: Annotated[cloaca.TaskHandle, "a note", 1],
        f: Handle,
        g: Handle | None = None,
    ) -> bool:
        return all(isinstance(one, cloaca.TaskHandle) for one in (a, b, c, d, e, f, g))

    @cloaca.task
    def context(first: Optional[cloaca.Context]) -> None:
        first["is_context"] = isinstance(first, cloaca.Context)

with cloaca.DefaultRunner(":memory:") as runner:
    result = runner.execute("w")
    print(1 + result.of(handles) + result.final_context["is_context"])
"""


@pytest.mark.parametrize("python", interpreters())
@pytest.mark.parametrize(
    ("program", "since"),
    [
        pytest.param(LATER, (3, 11), id="quoted"),
        pytest.param(POSTPONED, (3, 11), id="postponed"),
        pytest.param(ONLY_CHECKED, (3, 11), id="for type checkers"),
        pytest.param(ALIASES, (3, 12), id="type statements"),
        pytest.param(OF_A_FUNCTION, (3, 11), id="classes of a function"),
        pytest.param(OPTIONAL, (3, 11), id="optional"),
        pytest.param(
            f"from __future__ import annotations\n{OPTIONAL}", (3, 11), id="optional, postponed"
        ),
        pytest.param(UNQUOTED, (3, 14), id="unquoted"),
        pytest.param(FIELD_ONLY_CHECKED, (3, 14), id="field for type checkers"),
    ],
)
def test_j4_annotations_are_resolved_or_refused_on_every_python(
    program: str, since: tuple[int, int], python: str, tmp_path: Path
) -> None:
    if version(python) < since:
        pytest.skip(f"needs Python {since[0]}.{since[1]}")
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [python, "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("3\n", "")
