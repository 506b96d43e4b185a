"""The names of types in stored failures, retry policies (semantics D1) and fingerprints.

They are stored, so they never contain the path of a private module: modules may move.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_SHORT = frozenset({"builtins", "cloaca"})


def type_name(kind: type) -> str:
    """The qualified name of a type; builtins and cloaca's own types are named without their module.

    Args:
        kind: The type.

    Returns:
        For example `ValueError`, `TaskTimeoutError` or `shop.errors.PaymentError`.
    """
    try:
        module = public_module(kind)
        return kind.__qualname__ if module in _SHORT else f"{module}.{kind.__qualname__}"
    except BaseException:
        # A class may have any object as `__module__`, and a metaclass that raises.
        return _own_name(kind)


def public_module(kind: type) -> str:
    """The module of a type; `cloaca` for a type that one of its private modules defines."""
    module = kind.__module__
    if str(module).startswith("cloaca._"):
        return "cloaca"
    # Only Python 3.13 names the private modules of `pathlib`.
    return "pathlib" if str(module).startswith("pathlib._") else module


def lineage(kind: type) -> list[str]:
    """The names of a type and its bases, most specific first, without `object`."""
    return [type_name(base) for base in _own_mro(kind)[:-1]]


_own_name: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_own_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
