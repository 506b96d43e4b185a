"""The shapes of annotations: the kinds of JSON of their values and of the values' parts (J6).

A shape that is not known is `None`, and so are kinds that are not known.
"""

from __future__ import annotations

from cloaca._values.kinds import ARRAY, OBJECT, joined, kinds_of_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from cloaca._values.kinds import Kinds

    class Shape(Protocol):
        """The kinds of JSON of values, and the shapes of their parts."""

        @property
        def kinds(self) -> Kinds:
            """The kinds of the values; `None` if they are not known."""

        def elements(self) -> Shape | None:
            """Return the shape of the elements, for values that are arrays."""

        def field(self, name: str) -> Shape | None:
            """Return the shape of a field, for values that are objects."""


class InfoShape:
    """The shape of one or several types of `msgspec.inspect`."""

    __slots__ = ("_infos", "_stored")

    def __init__(self, infos: Sequence[Any], *, stored: bool) -> None:
        """Make a shape.

        Args:
            infos: The types. A value has one of them.
            stored: Whether to describe the values that are stored, instead of accepted values.
        """
        self._infos = tuple(part for info in infos for part in _parts_of_union(info))
        self._stored = stored

    @property
    def kinds(self) -> Kinds:
        """The kinds of the values; `None` if they are not known."""
        return joined(kinds_of_info(info, stored=self._stored) for info in self._infos)

    def elements(self) -> InfoShape | None:
        """Return the shape of the elements, for values that are arrays."""
        found: list[Any] = []
        for info in self._of_kind(ARRAY):
            inner = _element_types(info)
            if inner is None:
                return None
            found += inner
        return InfoShape(found, stored=self._stored) if found else None

    def field(self, name: str) -> InfoShape | None:
        """Return the shape of a field, for values that are objects."""
        import msgspec

        found: list[Any] = []
        for info in self._of_kind(OBJECT):
            if isinstance(info, msgspec.inspect.DictType):
                found.append(info.value_type)
                continue
            fields = {field.encode_name: field.type for field in getattr(info, "fields", ())}
            if name not in fields:
                return None
            found.append(fields[name])
        return InfoShape(found, stored=self._stored) if found else None

    def _of_kind(self, kind: str) -> list[Any]:
        """Return the types whose values can have a kind; no types if the kinds are not known."""
        if self.kinds is None:
            return []
        kinds = [(info, kinds_of_info(info, stored=self._stored)) for info in self._infos]
        return [info for info, found in kinds if found is not None and kind in found]


def _parts_of_union(info: Any) -> list[Any]:
    import msgspec

    if isinstance(info, msgspec.inspect.Metadata):
        return _parts_of_union(info.type)
    if isinstance(info, msgspec.inspect.UnionType):
        return [part for inner in info.types for part in _parts_of_union(inner)]
    return [info]


def _element_types(info: Any) -> list[Any] | None:
    """Returns the types of the elements of an array; `None` if they are not known."""
    import msgspec

    types = msgspec.inspect
    if isinstance(info, (types.ListType, types.SetType, types.FrozenSetType, types.VarTupleType)):
        return [info.item_type]
    if isinstance(info, types.TupleType):
        return list(info.item_types)
    if isinstance(info, types.NamedTupleType):
        return [field.type for field in info.fields]
    return None
