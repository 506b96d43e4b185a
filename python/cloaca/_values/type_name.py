"""How an exception's type is named in stored failures and retry policies (semantics D1)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def type_name(kind: type) -> str:
    """The qualified name of a type; builtins and cloaca's own stand without their module.

    Args:
        kind: The type.

    Returns:
        For example `ValueError`, `TaskTimeoutError` or `shop.errors.PaymentError`.
    """
    try:
        if kind.__module__ in {"builtins", "cloaca"}:
            return kind.__qualname__
        return f"{kind.__module__}.{kind.__qualname__}"
    except BaseException:
        # A class may have any object as `__module__`, and a metaclass that raises.
        return _own_name(kind)


def lineage(kind: type) -> list[str]:
    """The names of a type and its bases, nearest first, without `object`."""
    return [type_name(base) for base in _own_mro(kind)[:-1]]


_own_name: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_own_mro: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
