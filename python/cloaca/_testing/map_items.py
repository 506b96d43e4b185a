"""Gives the items of a map to a task that runs without a runner."""

from __future__ import annotations

import json
from copy import copy

from cloaca._core import Context
from cloaca._executions.items import Item, MapResult
from cloaca._executions.status import TaskStatus
from cloaca._values.decoding_errors import Undecodable
from cloaca._values.json_numbers import parsed, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._tasks.call import Source
    from cloaca._values.decoding import Decoder


class GivenItems:
    """The items of a map that a test passes, as a list of results or as a `MapResult`.

    It replaces `Source.items`, the class that reads the JSON of the engine.
    """

    def __init__(self, source: Source, given: MapResult[Any] | None) -> None:
        """Prepare the items.

        Args:
            source: The source of the parameter that receives the items.
            given: The `MapResult` that the test passed; `None` if the context has the results.
        """
        self._accepts_none = source.items_or_none
        self._given = given

    def _read(self, text: str, decoder: Decoder | None) -> MapResult[Any] | None:
        """Return the items. `text` has the results, as if all items had completed.

        Raises:
            Undecodable: The text is not an array, or a result does not match the annotation.
        """
        if self._given is not None:
            return MapResult([_decoded(item, decoder) for item in self._given])
        if text == "null" and self._accepts_none:
            return None
        return MapResult(
            [_completed(index, part, decoder) for index, part in enumerate(_parts(text))]
        )


def results_of(given: Any, decoder: Decoder | None) -> Any:
    """Returns the JSON form of the results that a test passes.

    Args:
        given: A `MapResult`, a list of results, or a wrong value, which is returned unchanged.
        decoder: The decoder of the results.
    """
    if isinstance(given, MapResult):
        given = [item.value for item in given]
    if not isinstance(given, list | tuple):
        return given
    return [_plain(value, decoder) for value in given]


def _plain(value: object, decoder: Decoder | None) -> object:
    if value is None or decoder is None or not decoder.converts:
        return value
    return decoder.plain_input(value)


def _parts(text: str) -> list[str]:
    """Returns the JSON texts of an array's elements.

    Raises:
        Undecodable: The text is not an array.
    """
    elements = parsed(text)
    if not isinstance(elements, list):
        raise Undecodable("", "expected a list of results, or a MapResult")
    return [text_of(element) for element in elements]


def _text(value: object) -> str:
    text = Context({"value": value})._raw("value")
    assert text is not None
    return text


def _completed(index: int, text: str, decoder: Decoder | None) -> Item:
    data = {
        "index": index,
        "status": TaskStatus.COMPLETED,
        "error": None,
        "attempts": 1,
        "started_at_us": None,
        "ended_at_us": None,
    }
    return Item(data, _value(index, text, decoder))


def _decoded(item: Item, decoder: Decoder | None) -> Item:
    """Returns an item with its value as another task would receive it."""
    twin = copy(item)
    if item.status is TaskStatus.COMPLETED:
        twin.value = _value(item.index, _text(_plain(item.value, decoder)), decoder)
    return twin


def _value(index: int, text: str, decoder: Decoder | None) -> Any:
    if decoder is None:
        return json.loads(text)
    try:
        return decoder.decode(text)
    except Undecodable as error:
        raise error.under(f"[{index}]") from error.__cause__
