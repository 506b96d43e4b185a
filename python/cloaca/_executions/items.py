"""The items of maps: `Item`, pages of items, and `MapResult` for tasks (semantics K)."""

from __future__ import annotations

from cloaca._executions.status import TaskStatus
from cloaca._values.duration import us_to_instant
from cloaca._values.error_info import ErrorInfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import Any, Generic, TypeVar

    from cloaca._values.decoding import Decoder

    T = TypeVar("T")

    class _Typed(Generic[T]):
        """The base of a class with the type of its values."""

        __slots__ = ()
else:
    T = None

    class _Typed:
        """The base of a class with the type of its values; `typing` is slow to import."""

        __slots__ = ()

        def __class_getitem__(cls, kind: Any) -> Any:
            """The class with the type of its values."""
            from types import GenericAlias

            return GenericAlias(cls, kind)


class Item:
    """One item of a map: what its function did with one element of the list.

    Attributes:
        index: Its index in the list.
        status: Its state. An item that has not started is `Pending`.
        value: The value that the function returned; `None` unless it completed.
        error: Why its last attempt failed.
        attempts: The number of its attempts so far.
        started_at: The start of its last attempt.
        ended_at: The time of its end.

    Since 1.0.
    """

    __slots__ = ("attempts", "ended_at", "error", "index", "started_at", "status", "value")

    def __init__(self, data: dict[str, Any], value: Any) -> None:
        """Private: made by `items` and `MapResult`."""
        self.index: int = data["index"]
        self.status = TaskStatus(data["status"])
        self.value = value
        error = data["error"]
        self.error: ErrorInfo | None = None
        if error is not None:
            self.error = ErrorInfo(error["type"], error["message"], error["traceback"])
        self.attempts: int = data["attempts"]
        self.started_at = _instant(data["started_at_us"])
        self.ended_at = _instant(data["ended_at_us"])

    def __repr__(self) -> str:
        """The index, the state and the error."""
        error = "" if self.error is None else f" error={str(self.error)!r}"
        return f"<Item {self.index} {self.status}{error}>"


class ItemPage:
    """A page of a map's items, in the order of the list. Iterate over it, or read `items`.

    Attributes:
        items: The items of this page.
        next_cursor: The `cursor` with which `items` returns the next page; `None` on the last one.

    Since 1.0.
    """

    __slots__ = ("items", "next_cursor")

    def __init__(self, items: list[Item], next_cursor: str | None) -> None:
        """Private: made by `DefaultRunner.items`."""
        self.items = items
        self.next_cursor = next_cursor

    def __iter__(self) -> Iterator[Item]:
        """The items."""
        return iter(self.items)

    def __len__(self) -> int:
        """The number of items in this page."""
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        """The item at an index of the page."""
        return self.items[index]

    def __repr__(self) -> str:
        """The number of items, and the cursor."""
        return f"<ItemPage items={len(self.items)} next_cursor={self.next_cursor!r}>"


class MapResult(_Typed[T]):
    """The items of a map, also those that failed, for a parameter that names the map.

    `MapResult[Page]` decodes the results as `Page`. Unlike `list[Page]` it accepts a map with
    failed items, and a map that failed.

    Example:
        >>> @cloaca.task(trigger_rule="all_done")
        ... def report(fetch: cloaca.MapResult[Page]) -> dict[str, int]:
        ...     return {"pages": len(fetch.values()), "errors": len(fetch.errors())}

    Since 1.0.
    """

    __slots__ = ("_items",)

    # The resolver of parameters recognises the class by this attribute, without importing it.
    _is_map_result = True

    def __init__(self, items: list[Item]) -> None:
        """Make a result, for the test of a function.

        Args:
            items: The items in the order of the list.
        """
        self._items = items

    @classmethod
    def _read(cls, text: str, decoder: Decoder | None) -> MapResult[Any]:
        """The result from the engine's JSON."""
        import json

        return cls([item_of(data, decoder) for data in json.loads(text)])

    def values(self) -> list[T]:
        """The results of the completed items, in the order of the list. Since 1.0."""
        done = TaskStatus.COMPLETED
        return [item.value for item in self._items if item.status is done]

    def errors(self) -> list[Item]:
        """The items that failed, in the order of the list. Since 1.0."""
        return [item for item in self._items if item.status is TaskStatus.FAILED]

    def __len__(self) -> int:
        """The number of items."""
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        """The items in the order of the list."""
        return iter(self._items)

    def __getitem__(self, index: int) -> Item:
        """The item at an index."""
        return self._items[index]

    def __repr__(self) -> str:
        """The numbers of items."""
        return f"<MapResult items={len(self)} errors={len(self.errors())}>"


def item_of(data: dict[str, Any], decoder: Decoder | None = None) -> Item:
    """Returns the item that an object of the engine describes.

    Args:
        data: The object.
        decoder: Decodes its value; `None` keeps plain JSON.

    Raises:
        Undecodable: The value does not match the annotation.
    """
    value = data["value"]
    if decoder is not None and data["status"] == TaskStatus.COMPLETED:
        import json

        from cloaca._values.decoding import Undecodable

        try:
            value = decoder.decode(json.dumps(value))
        except Undecodable as error:
            raise Undecodable(f"[{data['index']}]{error.path}", error.reason) from None
    return Item(data, value)


def _instant(us: int | None) -> datetime | None:
    return None if us is None else us_to_instant(us)
