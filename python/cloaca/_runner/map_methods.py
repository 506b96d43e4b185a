"""Methods of a runner that list the items of maps and change running maps."""

from __future__ import annotations

from cloaca._executions.handle import id_of
from cloaca._executions.status import TaskStatus
from cloaca._tasks.references import task_id as task_of
from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloaca._executions.handle import WorkflowHandle
    from cloaca._executions.items import Item, ItemPage

# The engine counts items in 32 bits.
_MAX_PARALLEL = 2**32 - 1


class MapMethods:
    """The part of `DefaultRunner` that reads and changes maps. Private."""

    _core: Any

    def items(
        self,
        execution_id: str | WorkflowHandle,
        task_id: str | Callable[..., object],
        status: TaskStatus | str | None = None,
        cursor: str | None = None,
        *,
        limit: int = 1000,
    ) -> ItemPage:
        """List the items of a map in the order of its list, page by page.

        Args:
            execution_id: The execution, as a handle or an id.
            task_id: The mapped task, by id or by function.
            status: Only items in this state. While the map runs, items that have not started are
                `Pending`.
            cursor: `next_cursor` of the previous page.
            limit: Maximum number of items in the page, 1 to 1000.

        Returns:
            A page to iterate.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            TaskValidationError: The execution has no such task, or the task is not a map.
            ConfigurationError: An argument is not valid. The error is a `ValueError`.

        Example:
            >>> for item in runner.items(handle, "fetch", status="Failed"):
            ...     print(item.index, item.error)

        Since 1.0.
        """
        return item_page(self._core.reads, execution_id, task_id, status, cursor, limit)

    def set_map(
        self,
        execution_id: str | WorkflowHandle,
        task_id: str | Callable[..., object],
        *,
        parallel: int | None,
    ) -> None:
        """Change how many items of a running map run at once, on all runners together.

        Running items continue, so a lower limit is reached only after enough of them have ended.

        Args:
            execution_id: The execution, as a handle or an id.
            task_id: The mapped task, by id or by function.
            parallel: The new maximum number of running items, at least 1; `None` for no limit.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            TaskValidationError: The execution has no such task, or the task is not a map.
            ConfigurationError: `parallel` is not valid. The error is a `ValueError`.
            WorkflowError: The map has not read its list yet, or has ended.

        Example:
            >>> runner.set_map(handle, "fetch", parallel=2)

        Since 1.0.
        """
        if parallel is not None and not _is_whole(parallel, _MAX_PARALLEL):
            raise ConfigurationError(
                f"parallel must be a whole number from 1 to {_MAX_PARALLEL}, not {parallel!r}"
            )
        task = task_of("the task of set_map", task_id)
        self._core.reads.set_map(id_of(execution_id), task, parallel)


def item_page(
    reads: Any,
    execution_id: str | WorkflowHandle,
    task: str | Callable[..., object],
    status: TaskStatus | str | None,
    cursor: str | None,
    limit: int,
) -> ItemPage:
    """Returns a page of a map's items.

    Raises:
        ConfigurationError: An argument is not valid.
    """
    if not _is_whole(limit, 1000):
        raise ConfigurationError(f"limit must be a whole number from 1 to 1000, not {limit!r}")
    first = 0 if cursor is None else _first(cursor)
    if status is not None:
        try:
            status = TaskStatus(status)
        except ValueError:
            known = ", ".join(TaskStatus)
            raise ConfigurationError(f"status must be one of {known}, not {status!r}") from None
    import json

    from cloaca._executions.items import ItemPage, item_of

    found, next_first = reads.items(
        id_of(execution_id),
        task_of("the task of items", task),
        None if status is None else str(status),
        first,
        limit,
    )
    items: list[Item] = [item_of(json.loads(text)) for text in found]
    return ItemPage(items, None if next_first is None else str(next_first))


def _is_whole(value: object, highest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= highest


def _first(cursor: object) -> int:
    if isinstance(cursor, str) and cursor.isdecimal():
        return int(cursor)
    raise ConfigurationError(f"{cursor!r} is not the cursor of a page of items")
