"""Finds constraints in the metadata of annotations, so that none of them is ignored (semantics J4).

Each library ignores metadata of `Annotated` that it does not know. This is right for remarks, such
as strings and a program's own objects, but not for constraints. An annotation with constraints is
therefore decoded by the library that checks them, or is refused.
"""

from __future__ import annotations

import sys

from cloaca._values.annotation_parts import contains, first_part
from cloaca._values.decoding_errors import Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The classes of `annotated_types` that pydantic checks, and those that constrain nothing.
_CHECKED = frozenset(
    {"Ge", "Gt", "Interval", "Le", "Len", "Lt", "MaxLen", "MinLen", "MultipleOf", "Not"}
    | {"Predicate"}
)
_REMARKS = frozenset({"DocInfo", "Unit"})
# The fields of `msgspec.Meta` that constrain a value.
_META = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length", "tz")


def has_constraints(annotation: Any) -> bool:
    """Returns whether an annotation has a constraint of `annotated_types`, at any depth.

    The constrained types of pydantic, such as `PositiveInt`, have constraints of `annotated_types`.
    """
    return "annotated_types" in sys.modules and contains(annotation, _is_constraint)


def refuse_ignored(annotation: Any, library: str) -> None:
    """Raises an error if the library that decodes an annotation ignores one of its constraints.

    Args:
        annotation: The annotation.
        library: The library: `pydantic` or `msgspec`.

    Raises:
        Unreadable: A constraint would be ignored.
    """
    if "annotated_types" in sys.modules:
        unchecked = first_part(annotation, _is_unchecked)
        if unchecked is not None:
            raise Unreadable(
                f"neither pydantic nor msgspec checks the constraint {unchecked!r}",
                hint="check it in the function, or in a validator of a model",
            )
    if library == "pydantic" and "msgspec" in sys.modules:
        ignored = first_part(annotation, _is_meta)
        if ignored is not None:
            raise Unreadable(
                f"pydantic decodes the annotation and would ignore the constraint {ignored!r}",
                hint="write the constraint with pydantic.Field",
            )


def refused_constraint(annotation: Any, reason: str) -> Unreadable:
    """Returns the error for an annotation whose constraints cannot be checked.

    Args:
        annotation: The annotation, which has a constraint of `annotated_types`.
        reason: The reason why pydantic cannot decode the annotation.
    """
    constraint = first_part(annotation, _is_constraint)
    return Unreadable(
        f"only pydantic checks the constraint {constraint!r}, but {reason}",
        hint="write the constraint with msgspec.Meta, such as Annotated[int, msgspec.Meta(gt=0)]",
    )


def _kind(part: Any) -> str:
    """Returns the name of a part's class, if `annotated_types` defines the class.

    Otherwise returns `group` for a group of constraints, `subclass` for an object whose class is
    derived from a class of `annotated_types`, and an empty string for any other part.
    """
    kind = type(part)
    if getattr(kind, "__module__", None) == "annotated_types":
        return kind.__name__
    if getattr(part, "__is_annotated_types_grouped_metadata__", False) is True:
        return "group"
    bases = getattr(kind, "__mro__", ())
    return "subclass" if any(_is_base(base) for base in bases) else ""


def _is_base(kind: type) -> bool:
    return kind.__module__ == "annotated_types" and kind.__name__ == "BaseMetadata"


def _is_constraint(part: Any) -> bool:
    return _kind(part) not in {"", *_REMARKS}


def _is_unchecked(part: Any) -> bool:
    kind = _kind(part)
    if kind == "group":
        return any(map(_is_unchecked, part))
    return kind not in {"", *_CHECKED, *_REMARKS}


def _is_meta(part: Any) -> bool:
    return type(part).__module__.partition(".")[0] == "msgspec" and any(
        getattr(part, name, None) is not None for name in _META
    )
