"""Environment variables that tasks read, such as settings of a deployment."""

from __future__ import annotations

import os

from cloaca._values.arguments import check_string
from cloaca._values.exceptions import VariableNotSetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    D = TypeVar("D")

_PREFIX = "CLOACINA_VAR_"
# The subject of error messages.
_WHAT = "the name of a variable"

# The location of the database of the runner that started last.
_latest_location: list[str] = []


def var(name: str) -> str:
    """Return the value of the environment variable `CLOACINA_VAR_<name>`.

    Args:
        name: The name without the prefix. It is case-sensitive.

    Returns:
        The variable's text.

    Raises:
        KeyError: The variable is not set. The error is also a `ConfigurationError`.
        ConfigurationError: The name is not a string.

    Example:
        >>> cloaca.var("API_URL")  # CLOACINA_VAR_API_URL

    Since 1.0.
    """
    value = os.environ.get(_PREFIX + check_string(_WHAT, name))
    if value is None:
        raise VariableNotSetError(
            f"the variable {name!r} is not set",
            hint=f"set {_PREFIX}{name} in the environment, or use cloaca.var_or()",
        )
    return value


def var_or(name: str, default: D) -> str | D:
    """Return the value of the environment variable `CLOACINA_VAR_<name>`, or a default.

    Args:
        name: The name without the prefix. It is case-sensitive.
        default: The value to return if the variable is not set.

    Returns:
        The variable's text, or the default.

    Raises:
        ConfigurationError: The name is not a string.

    Example:
        >>> cloaca.var_or("API_URL", "http://localhost:8000")

    Since 1.0.
    """
    return os.environ.get(_PREFIX + check_string(_WHAT, name), default)


def get_backend() -> str:
    """Return the kind of database that this program uses: `"sqlite"` or `"postgresql"`.

    The last started runner determines the kind. If no runner has started, `CLOACA_DATABASE_URL`
    determines the kind. Without this variable, the kind is `"sqlite"`.

    Example:
        >>> if cloaca.get_backend() == "sqlite":
        ...     print("one machine")

    Since 1.0.
    """
    location = os.environ.get("CLOACA_DATABASE_URL", "")
    if _latest_location:
        location = _latest_location[0]
    return "postgresql" if location.startswith(("postgres:", "postgresql:")) else "sqlite"


def note_location(location: str) -> None:
    """Records the database of a runner that starts, for `get_backend`."""
    _latest_location[:] = [location]
