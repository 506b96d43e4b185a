"""How an exception's type is named in stored failures and retry policies (semantics D1)."""

from __future__ import annotations


def type_name(kind: type) -> str:
    """The qualified name of a type; builtins and cloaca's own stand without their module.

    Args:
        kind: The type.

    Returns:
        For example `ValueError`, `TaskTimeoutError` or `shop.errors.PaymentError`.
    """
    if kind.__module__ in {"builtins", "cloaca"}:
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def lineage(kind: type) -> list[str]:
    """The names of a type and its bases, nearest first, without `object`."""
    return [type_name(base) for base in kind.__mro__[:-1]]
