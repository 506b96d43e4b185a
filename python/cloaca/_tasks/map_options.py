"""The options of a task that runs once per element of a list (semantics K)."""

from __future__ import annotations

from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class MapOptions:
    """The validated options of a map.

    Attributes:
        over: The list, or the lists by parameter: each a task, a key, or a field of the input.
        parallel: Maximum number of items that run at once; `None` for no limit.
        batch: Maximum number of elements of an item, which is then a list; `None` for one element.
        tolerate: Maximum number or share of failed items; with `None`, all items run.
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
        """The options as the engine reads them, with the key of the list of each parameter."""
        data: dict[str, Any] = {"lists": dict(lists)}
        for name in ("parallel", "batch", "tolerate"):
            value = getattr(self, name)
            if value is not None:
                data[name] = value
        return data


def read_map(over: Any, parallel: Any, batch: Any, tolerate: Any) -> MapOptions | None:
    """The options of `task`; `None` for a task that is not mapped.

    Raises:
        TaskValidationError: An option is not valid, or `over` is missing.
    """
    if over is None:
        for option, value in (("parallel", parallel), ("batch", batch), ("tolerate", tolerate)):
            if value is not None:
                raise TaskValidationError(f"{option} needs over=")
        return None
    if isinstance(over, dict):
        if not over or not all(isinstance(name, str) and name for name in over):
            raise TaskValidationError(
                f"over must map parameters to lists, not {over!r}",
                hint='over={"url": "urls", "name": "names"}',
            )
        over = dict(over)
    return MapOptions(
        over, _count("parallel", parallel), _count("batch", batch), _tolerance(tolerate)
    )


def _count(option: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**32:
        raise TaskValidationError(f"{option} must be a whole number from 1, not {value!r}")
    return value


def _tolerance(value: object) -> float | None:
    """A number of items as `int`, or a share of them as `float`."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TaskValidationError(f"tolerate must be a number, not {value!r}")
    if isinstance(value, int):
        if 0 <= value < 2**32:
            return value
        raise TaskValidationError(f"tolerate must be a number of items from 0, not {value!r}")
    if 0.0 <= value <= 1.0:
        return value
    raise TaskValidationError(
        f"tolerate must be a number of items or a fraction from 0.0 to 1.0, not {value!r}"
    )
