"""Settings of a deployment that tasks read from the environment."""

from __future__ import annotations

import os

from cloaca._values.exceptions import VariableNotSetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    D = TypeVar("D")

_PREFIX = "CLOACINA_VAR_"

# The database of the runner that started last.
_latest_location: list[str] = []


def var(name: str) -> str:
    """The value of the environment variable `CLOACINA_VAR_<name>`.

    Args:
        name: The name without the prefix; upper and lower case differ.

    Returns:
        Its text.

    Raises:
        KeyError: It is not set. It is a `ConfigurationError` too.

    Example:
        >>> cloaca.var("API_URL")  # CLOACINA_VAR_API_URL

    Since 1.0.
    """
    value = os.environ.get(_PREFIX + name)
    if value is None:
        raise VariableNotSetError(
            f"the variable {name!r} is not set",
            hint=f"set {_PREFIX}{name} in the environment, or use cloaca.var_or()",
        )
    return value


def var_or(name: str, default: D) -> str | D:
    """The value of the environment variable `CLOACINA_VAR_<name>`, or a default.

    Args:
        name: The name without the prefix; upper and lower case differ.
        default: The value to return if the variable is not set.

    Returns:
        Its text, or the default.

    Since 1.0.
    """
    return os.environ.get(_PREFIX + name, default)


def get_backend() -> str:
    """The kind of database that this program uses: `"sqlite"` or `"postgresql"`.

    It is the kind of the last started runner; without a runner, the kind of
    `CLOACA_DATABASE_URL`; otherwise `"sqlite"`.

    Since 1.0.
    """
    location = os.environ.get("CLOACA_DATABASE_URL", "")
    if _latest_location:
        location = _latest_location[0]
    return "postgresql" if location.startswith(("postgres:", "postgresql:")) else "sqlite"


def note_location(location: str) -> None:
    """Keeps the database of a runner that starts, for `get_backend`."""
    _latest_location[:] = [location]
