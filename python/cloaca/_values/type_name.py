"""The names of types in stored failures, retry policies (semantics D1) and fingerprints.

The names are stored. They do not contain the names of private modules, because a class may move to
another module.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


# The modules whose types are named without the module.
_SHORT = frozenset({"builtins", "cloaca"})


def type_name(kind: type) -> str:
    """Returns the qualified name of a type; builtins and types of cloaca have no module name.

    Args:
        kind: The type.

    Returns:
        The name, for example `ValueError`, `TaskTimeoutError` or `shop.errors.PaymentError`.
    """
    try:
        module = public_module(kind)
        return kind.__qualname__ if module in _SHORT else f"{module}.{kind.__qualname__}"
    except BaseException:
        # A class may have any object as `__module__`, and its metaclass may raise an exception.
        return _own_name(kind)


def public_module(kind: type) -> str:
    """Returns the module of a type; `cloaca` for a type of a private module of `cloaca`."""
    module = kind.__module__
    if str(module).startswith("cloaca._"):
        return "cloaca"
    # In Python 3.13, the classes of `pathlib` belong to private modules.
    return "pathlib" if str(module).startswith("pathlib._") else module


def lineage(kind: type) -> list[str]:
    """Returns the names of a type and its bases, most specific first, without `object`."""
    return [type_name(base) for base in _own_mro(kind)[:-1]]


_own_name: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_own_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
