"""Searches the parts of an annotation: its arguments, metadata, and the fields of its classes."""

from __future__ import annotations

from cloaca._values.annotations import class_hints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def contains(annotation: Any, wanted: Callable[[Any], bool]) -> bool:
    """Whether an annotation has a part, at any depth, for which a function is true."""
    return _contains(annotation, wanted, set())


def hints_of(kind: type) -> dict[str, Any]:
    """The annotations of a class; empty if they cannot be read.

    The library that decodes the class says what is wrong with it.
    """
    try:
        return class_hints(kind)
    except Exception:
        return {}


def _contains(annotation: Any, wanted: Callable[[Any], bool], seen: set[int]) -> bool:
    if id(annotation) in seen:
        return False
    seen.add(id(annotation))
    from typing import get_args, get_origin

    if wanted(annotation):
        return True
    if any(_contains(part, wanted, seen) for part in get_args(annotation)):
        return True
    kind = get_origin(annotation) or annotation
    if type(kind).__name__ == "TypeAliasType":
        return _contains(kind.__value__, wanted, seen)
    if not isinstance(kind, type) or kind.__module__ == "builtins":
        return False
    return any(_contains(part, wanted, seen) for part in hints_of(kind).values())
