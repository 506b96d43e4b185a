"""The options of a map: a task that runs once per element of a list (semantics K)."""

from __future__ import annotations

from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# The engine counts items in 32 bits.
_MAX_COUNT = 2**32 - 1


class MapOptions:
    """The validated options of a map.

    Attributes:
        over: The list to run over, or a mapping from parameters to lists of equal length. Each list
            is the result of a task, a key of the context, or a field of the input.
        parallel: Maximum number of items that run at once; `None` for no limit.
        batch: Maximum number of elements in an item, which is then a list. With `None`, an item is
            one element.
        tolerate: Maximum number or share of failed items. If more items fail, no further items
            start. With `None`, all items run.
    """

    __slots__ = ("batch", "over", "parallel", "tolerate")

    def __init__(
        self,
        over: object | Mapping[str, object],
        parallel: int | None,
        batch: int | None,
        tolerate: float | None,
    ) -> None:
        self.over = over
        self.parallel = parallel
        self.batch = batch
        self.tolerate = tolerate

    def to_definition(self, lists: Mapping[str, str]) -> dict[str, Any]:
        """Return the options in the form that the engine reads.

        Args:
            lists: The key of each parameter's list.
        """
        data: dict[str, Any] = {"lists": dict(lists)}
        for name in ("parallel", "batch", "tolerate"):
            value = getattr(self, name)
            if value is not None:
                data[name] = value
        return data


def read_map(over: Any, parallel: Any, batch: Any, tolerate: Any) -> MapOptions | None:
    """Validates the options of a map, and returns them; `None` for a task that is not a map.

    Raises:
        TaskValidationError: An option is not valid, or `over` is missing.
    """
    if over is None:
        for option, value in (("parallel", parallel), ("batch", batch), ("tolerate", tolerate)):
            if value is not None:
                raise TaskValidationError(f"{option} is given without over=")
        return None
    if isinstance(over, dict):
        if not over or not all(isinstance(name, str) and name for name in over):
            raise TaskValidationError(
                f"over must map parameters to lists, not {over!r}",
                hint='write over={"url": "urls", "name": "names"}',
            )
        over = dict(over)
    return MapOptions(
        over, _count("parallel", parallel), _count("batch", batch), _tolerance(tolerate)
    )


def _count(option: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_COUNT:
        raise TaskValidationError(
            f"{option} must be a whole number from 1 to {_MAX_COUNT}, not {value!r}"
        )
    return value


def _tolerance(value: object) -> float | None:
    """Returns a number of items as `int`, or a share of the items as `float`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TaskValidationError(f"tolerate must be a number, not {value!r}")
    if isinstance(value, int):
        if 0 <= value <= _MAX_COUNT:
            return value
        raise TaskValidationError(
            f"tolerate must be a number of items from 0 to {_MAX_COUNT}, not {value!r}"
        )
    if 0.0 <= value <= 1.0:
        return value
    raise TaskValidationError(
        f"tolerate must be a number of items or a fraction from 0.0 to 1.0, not {value!r}"
    )
