"""Listings of executions: their conditions and their pages."""

from __future__ import annotations

from cloaca._core import ListFilter
from cloaca._executions.history import Page
from cloaca._executions.result import WorkflowResult
from cloaca._executions.status import WorkflowStatus
from cloaca._executions.submission import checked_labels
from cloaca._values.arguments import check_flag, check_optional_strings, check_string
from cloaca._values.duration import instant_to_us
from cloaca._values.exceptions import ConfigurationError
from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from typing import Any

    from cloaca import _core
    from cloaca._workflows.workflow import Workflow

# Maximum number of executions per read; a larger page is assembled from several reads.
_BATCH = 1000


def list_filter(
    *,
    workflow: str | Workflow | Iterable[str | Workflow] | None = None,
    status: str | Iterable[str] | None = None,
    since: datetime | None = None,
    tags: Mapping[str, str] | None = None,
    key: str | Iterable[str] | None = None,
    labels: Mapping[str, str] | None = None,
    not_status: str | Iterable[str] | None = None,
    version: str | Iterable[str] | None = None,
    id_prefix: str | None = None,
    error: str | None = None,
    input: Mapping[str, Any] | None = None,
    until: datetime | None = None,
    schedule: str | None = None,
    runner: str | None = None,
    children: bool = False,
) -> ListFilter:
    """Returns the conditions of a listing.

    Raises:
        ConfigurationError: A condition is not valid.
    """
    workflows: list[Any] = [getattr(one, "name", one) for one in _list(workflow)]
    _check_texts("workflow", workflows)
    check_optional_strings(id_prefix=id_prefix, error=error, schedule=schedule, runner=runner)
    return ListFilter(
        workflows=workflows,
        versions=_texts("version", version) or [],
        statuses=_statuses(status),
        not_statuses=_statuses(not_status),
        tags=[] if tags is None else list(checked_labels(tags, "tags").items()),
        labels=[] if labels is None else list(checked_labels(labels).items()),
        keys=_texts("key", key),
        id_prefix=id_prefix,
        error=error,
        inputs=[] if input is None else _inputs(input),
        schedule=schedule,
        runner=runner,
        since_us=None if since is None else instant_to_us("since", since),
        until_us=None if until is None else instant_to_us("until", until),
        children=check_flag("children", children),
    )


def list_page(reads: _core.Reads, wanted: ListFilter, limit: int, cursor: str | None) -> Page:
    """Returns a page of at most `limit` executions, newest first; `limit` has no upper bound."""
    check_optional_strings(cursor=cursor)
    found: list[_core.Execution] = []
    before: str | None = None
    goes_back = cursor is not None and cursor.startswith("newer-than:")
    while True:
        left = min(limit - len(found), _BATCH)
        page = reads.executions(wanted, left, cursor)
        if not found:
            before = page.prev_cursor
        found += page.executions
        cursor = page.next_cursor
        is_cut = page.scanned_until_us is not None
        if cursor is None or len(found) >= limit or is_cut or goes_back:
            results = [WorkflowResult(execution) for execution in found]
            return Page(results, cursor, before, page.scanned_until_us)


def check_limit(limit: object) -> None:
    """Raises an error for an invalid limit of a page.

    Raises:
        ConfigurationError: The limit is not a positive whole number.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigurationError(f"limit must be a whole number of at least 1, not {limit!r}")


def _inputs(input: Mapping[str, Any]) -> list[tuple[str, str]]:
    import json
    from collections.abc import Mapping

    if not isinstance(input, Mapping):
        raise ConfigurationError(
            f"input must be a mapping, not {type(input).__name__}",
            hint='for example input={"user.id": 123}',
        )
    pairs = []
    for path, value in input.items():
        _check_texts("a key of input", [path])
        try:
            text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        except (TypeError, ValueError):
            raise ConfigurationError(
                f"input: the value of '{path}' must be JSON, not {type(value).__name__}"
            ) from None
        pairs.append((path, text))
    return pairs


def _texts(what: str, given: str | Iterable[str] | None) -> list[str] | None:
    if given is None:
        return None
    texts: list[Any] = _list(given)
    _check_texts(what, texts)
    return texts


def _list(given: object) -> list[object]:
    """Returns a list of the values of a filter, which may be one value, several or `None`."""
    if given is None:
        return []
    is_single = isinstance(given, str) or hasattr(given, "name") or not hasattr(given, "__iter__")
    values: Any = [given] if is_single else given
    return list(values)


def _check_texts(what: str, texts: Iterable[object]) -> None:
    for text in texts:
        check_string(what, text)


def _statuses(status: str | Iterable[str] | None) -> list[str]:
    given: list[Any] = _list(status)
    known = [state.value for state in WorkflowStatus]
    for state in given:
        if state not in known:
            raise ConfigurationError(
                f"unknown status {state!r}", hint=suggestion(state, known, listing=True)
            )
    return [str(WorkflowStatus(state)) for state in given]
