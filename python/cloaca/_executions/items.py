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
        """The base of classes that are generic in the type of their values."""

        __slots__ = ()
else:
    T = None

    class _Typed:
        """The same base without `typing`, which is slow to import."""

        __slots__ = ()

        def __class_getitem__(cls, kind: Any) -> Any:
            """Returns the class, parameterized with the type of its values."""
            from types import GenericAlias

            return GenericAlias(cls, kind)


class Item:
    """One item of a map: the function runs for one element of the list, with `batch=` for several.

    Attributes:
        index: The item's number, from 0; without `batch=`, the index of its element in the list.
        status: The item's state. An item that has not started is `Pending`; when the map ends, it
            becomes `Cancelled` or `Skipped`.
        value: The value that the function returned; `None` unless the item has completed.
        error: The error of the last attempt, if the attempt failed.
        attempts: The number of attempts so far.
        started_at: The start of the last attempt; `None` if no attempt has started.
        ended_at: The time at which the item ended; `None` if it has not ended.

    Example:
        >>> for item in runner.items(handle, "fetch", status="Failed"):
        ...     print(item.index, item.attempts, item.error)

    Since 1.0.
    """

    __slots__ = ("attempts", "ended_at", "error", "index", "started_at", "status", "value")

    def __init__(self, data: dict[str, Any], value: Any) -> None:
        """Private: `DefaultRunner.items` and `MapResult` create these objects."""
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
        """Return the index, the state and the error."""
        error = "" if self.error is None else f" error={str(self.error)!r}"
        return f"<Item {self.index} {self.status}{error}>"


class ItemPage:
    """A page of a map's items, in the order of the list. Iterate over it, or read `items`.

    Attributes:
        items: The items of this page.
        next_cursor: The `cursor` to pass to `DefaultRunner.items` for the next page; `None` on the
            last page.

    Example:
        >>> page = runner.items(handle, "fetch")
        >>> while page.next_cursor:
        ...     page = runner.items(handle, "fetch", cursor=page.next_cursor)

    Since 1.0.
    """

    __slots__ = ("items", "next_cursor")

    def __init__(self, items: list[Item], next_cursor: str | None) -> None:
        """Private: `DefaultRunner.items` creates these objects."""
        self.items = items
        self.next_cursor = next_cursor

    def __iter__(self) -> Iterator[Item]:
        """Return the items."""
        return iter(self.items)

    def __len__(self) -> int:
        """Return the number of items in this page."""
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        """Return the item at an index of the page."""
        return self.items[index]

    def __repr__(self) -> str:
        """Return the number of items, and the cursor."""
        return f"<ItemPage items={len(self.items)} next_cursor={self.next_cursor!r}>"


class MapResult(_Typed[T]):
    """All items of a map that has ended, whatever the final state of each item.

    A task receives a `MapResult` through a parameter that has the map's name. `MapResult[Page]`
    decodes the results as `Page`. Unlike `list[Page]`, `MapResult[Page]` accepts a map that failed
    or that has failed items.

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
        """Create a `MapResult` by hand, to call a task's function in a test.

        Args:
            items: The items in the order of the list.
        """
        self._items = items

    @classmethod
    def _read(cls, text: str, decoder: Decoder | None) -> MapResult[Any]:
        """Return the result that the engine's JSON describes.

        Raises:
            Undecodable: A value does not match the annotation.
        """
        if decoder is None:
            import json

            return cls([Item(data, data["value"]) for data in json.loads(text)])
        return cls(list(_decoded_items(text, decoder)))

    def values(self) -> list[T]:
        """Return the results of the completed items, in the order of the list.

        Example:
            >>> total = sum(fetch.values())

        Since 1.0.
        """
        done = TaskStatus.COMPLETED
        return [item.value for item in self._items if item.status is done]

    def errors(self) -> list[Item]:
        """Return the items that failed, in the order of the list.

        Example:
            >>> [item.index for item in fetch.errors()]

        Since 1.0.
        """
        return [item for item in self._items if item.status is TaskStatus.FAILED]

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        """Return the items in the order of the list."""
        return iter(self._items)

    def __getitem__(self, index: int) -> Item:
        """Return the item at an index."""
        return self._items[index]

    def __repr__(self) -> str:
        """Return the numbers of all items and of failed items."""
        return f"<MapResult items={len(self)} errors={len(self.errors())}>"


def item_of(data: dict[str, Any]) -> Item:
    """Returns the item that a JSON object of the engine describes, with its value as plain JSON."""
    return Item(data, data["value"])


def _decoded_items(text: str, decoder: Decoder) -> Iterator[Item]:
    """Yields the items that a JSON array of the engine describes, with decoded values.

    Raises:
        Undecodable: A value does not match the annotation.
    """
    import msgspec

    from cloaca._values.decoding import Undecodable

    # Values keep their text until the decoder reads it, so that no number is rounded.
    for raw in msgspec.json.decode(text, type=list[msgspec.Raw]):
        parts = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        value_text = bytes(parts.pop("value")).decode()
        data = {name: msgspec.json.decode(part) for name, part in parts.items()}
        value = None
        if data["status"] == TaskStatus.COMPLETED:
            try:
                value = decoder.decode(value_text)
            except Undecodable as error:
                raise error.under(f"[{data['index']}]") from error.__cause__
        yield Item(data, value)


def _instant(us: int | None) -> datetime | None:
    return None if us is None else us_to_instant(us)
