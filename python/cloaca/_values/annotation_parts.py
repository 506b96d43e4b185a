"""Searches the parts of an annotation: its arguments, metadata, and the fields of its classes."""

from __future__ import annotations

from cloaca._values.annotations import class_hints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def contains(annotation: Any, wanted: Callable[[Any], bool]) -> bool:
    """Returns whether `wanted` returns true for a part of an annotation, at any depth."""
    return first_part(annotation, wanted) is not None


def first_part(annotation: Any, wanted: Callable[[Any], bool], *, in_classes: bool = True) -> Any:
    """Returns the first part, at any depth, for which `wanted` returns true, or `None`.

    Args:
        annotation: The annotation.
        wanted: The function that decides about a part.
        in_classes: Whether the fields of classes are parts.
    """
    return _first(annotation, wanted, set(), in_classes)


def hints_of(kind: type) -> dict[str, Any]:
    """Returns the annotations of a class; empty if they cannot be read.

    The library that decodes the class reports the error.
    """
    try:
        return class_hints(kind)
    except Exception:
        return {}


def _first(annotation: Any, wanted: Callable[[Any], bool], seen: set[int], in_classes: bool) -> Any:
    if id(annotation) in seen:
        return None
    seen.add(id(annotation))
    from typing import get_args, get_origin

    if wanted(annotation):
        return annotation
    parts = list(get_args(annotation))
    kind = get_origin(annotation) or annotation
    if type(kind).__name__ == "TypeAliasType":
        parts.append(kind.__value__)
    elif type(kind).__name__ == "NewType":
        parts.append(kind.__supertype__)
    elif in_classes and isinstance(kind, type) and kind.__module__ != "builtins":
        parts += hints_of(kind).values()
    for part in parts:
        found = _first(part, wanted, seen, in_classes)
        if found is not None:
            return found
    return None
