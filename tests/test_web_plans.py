"""On PostgreSQL, the requests of the web page read few database pages of a large database.

The PostgreSQL server logs the plans of its statements with auto_explain, so the tests see the plans
of the product's own statements. `store/sqlite/list_plans.rs` checks the plans on SQLite.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import cloaca
import cloaca.web
from conftest import Server
from large_database import EVERY_LABELLED, Large, execution_id, fill
from web_support import TOKEN, UNKNOWN, call

#: The number of executions in the database.
MANY = 60_000
#: Maximum number of database pages (8 kB each) that a query with an index reads. One request of
#: the web page makes up to three such queries. A scan of the executions table would read more than
#: 1,000 database pages and all 60,000 rows.
FEW_PAGES = 900
#: Maximum number of rows that a request with an index reads for a list of 50 rows.
FEW_ROWS = 1_000
#: The number of rows after which a search without an index stops and reports how far back it has
#: searched.
BOUND = 20_000
#: The value at which counting stops.
COUNTED = 10_000
#: The number of times that a request is sent. PostgreSQL can switch a prepared statement to its
#: generic plan at the sixth execution.
ROUNDS = 7

#: Tables whose sizes depend on the number of executions.
LARGE = re.compile(r"cloacina_(executions|tasks|labels|events|inputs|ticks|logs)")


@pytest.fixture(scope="module", params=["with_statistics", "without_statistics"])
def large(
    server: Server, request: pytest.FixtureRequest
) -> Iterator[tuple[Large, cloaca.web.Server]]:
    """A large database on a server that logs plans, and an API server for it.

    The tables of a new database have no statistics until PostgreSQL has analyzed them.
    """
    name = f"web_plans_{request.param}"
    server.sql(f"CREATE DATABASE {name}")
    url = f"{server.url.rpartition('/')[0]}/{name}"
    filled = fill(url, MANY, server, analyze=request.param == "with_statistics")
    options = {
        "session_preload_libraries": "auto_explain",
        "auto_explain.log_min_duration": "0",
        "auto_explain.log_analyze": "on",
        "auto_explain.log_buffers": "on",
        "auto_explain.log_timing": "off",
        "auto_explain.log_format": "json",
        "log_min_messages": "log",
    }
    for option, value in options.items():
        server.sql(f"ALTER DATABASE {name} SET {option} = '{value}'")
    with cloaca.web.serve(url, token=TOKEN) as web:
        yield filled, web


@dataclass(repr=False)
class Cost:
    """The rows and pages that the statements of one request read, and the statements' plans."""

    rows: int
    pages: int
    plans: list[dict[str, Any]]

    def scanned(self) -> list[str]:
        """Returns the large tables that were read without an index."""
        names = [node["Relation Name"] for node in self.nodes() if node["Node Type"] == "Seq Scan"]
        return [name for name in names if LARGE.fullmatch(name)]

    def sorted_rows(self) -> int:
        """Returns the largest number of rows that a statement sorted."""
        return max((n["Actual Rows"] for n in self.nodes() if "Sort" in n["Node Type"]), default=0)

    def indexes(self) -> set[str]:
        """Returns the indexes that were used."""
        return {node["Index Name"] for node in self.nodes() if "Index Name" in node}

    def __repr__(self) -> str:
        nodes = [
            f"{n['Node Type']} {n.get('Index Name', n.get('Relation Name', ''))}:"
            f" {n['Shared Hit Blocks'] + n['Shared Read Blocks']} pages"
            for n in self.nodes()
        ]
        return f"{self.rows} rows, {self.pages} pages: {'; '.join(nodes)}"

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Returns the nodes of the plans."""
        return (node for plan in self.plans for node in nodes_of(plan))


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Returns the nodes of a plan, starting at the root."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes_of(part)


def rows_read(plan: dict[str, Any]) -> int:
    """Returns the number of rows of large tables that a plan read."""
    read = 0
    for node in nodes_of(plan):
        if LARGE.fullmatch(node.get("Relation Name", "")):
            removed = node.get("Rows Removed by Filter", 0)
            removed += node.get("Rows Removed by Index Recheck", 0)
            read += (node["Actual Rows"] + removed) * node["Actual Loops"]
    return int(read)


def measure(server: Server, web: cloaca.web.Server, path: str) -> tuple[Any, Cost]:
    """Sends a request several times; returns the last response and the cost of the worst round."""
    log = server.folder / "server.log"
    costs = []
    for _ in range(ROUNDS):
        before = log.stat().st_size
        answer = call(f"{web.url}api/v1/{path}")
        assert answer.status == 200, (path, answer.body)
        plans = read_plans(log, before)
        pages = sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans)
        costs.append(Cost(sum(map(rows_read, plans)), pages, plans))
    return answer.json(), max(costs, key=lambda cost: (cost.rows, cost.pages))


def read_plans(log: Path, start: int) -> list[dict[str, Any]]:
    """Returns the plans in the log after byte `start`, for statements on the engine's tables."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode()
    found = re.findall(r"plan:\n\t(\{\n(?:\t.*\n)+)", text)
    documents = [json.loads(plan) for plan in found]
    return [d["Plan"] for d in documents if "cloacina_" in d["Query Text"]]


@pytest.fixture(scope="module")
def ask(
    server: Server, large: tuple[Large, cloaca.web.Server]
) -> Callable[[str], tuple[Any, Cost]]:
    """A function that sends a request, and returns the response and its cost."""
    _, web = large
    return lambda path: measure(server, web, path)


def middle(count: int) -> str:
    """Returns the id of the middle execution of `count` executions."""
    id = execution_id(count // 2, count)
    return f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}"


#: Filters, each with a set of indexes. The request must use one of them, unless the set is empty.
FILTERS = {
    "": {"cloacina_executions_pkey"},
    "status=Failed": {"cloacina_executions_state"},
    "status=Pending": {"cloacina_executions_state"},
    "status=Running&status=Paused": {"cloacina_executions_state"},
    "-status=Completed": {"cloacina_executions_state"},
    "status=Completed": {"cloacina_executions_pkey"},
    "workflow=large-3": {"cloacina_executions_definition"},
    "workflow=large-3&status=Failed": {
        "cloacina_executions_state",
        "cloacina_executions_definition",
    },
    "workflow=large-3&status=Completed": {"cloacina_executions_definition"},
    "version={version}": {"cloacina_executions_definition"},
    "tag.team=team-1": {"cloacina_executions_definition"},
    f"label.order={EVERY_LABELLED * 7}": {"cloacina_labels_pkey"},
    f"key=order-{EVERY_LABELLED * 7}": {"cloacina_executions_key"},
    f"workflow=large-1&key=order-{EVERY_LABELLED * 6}": {"cloacina_executions_key"},
    "id={prefix}": {"cloacina_executions_pkey"},
    "since=24h": {"cloacina_executions_pkey"},
    "until=2d": {"cloacina_executions_pkey"},
    "since=20d&until=10d&status=Failed": {"cloacina_executions_state"},
    "schedule={schedule}": {"cloacina_ticks_execution"},
    "parent={middle}": {"cloacina_children_pkey", "cloacina_children_parent_id_parent_ordinal"},
    # Only failed executions have an error.
    "error=no+such+text": {"cloacina_executions_state"},
    "runner={runner}": set(),
}


def filled_query(query: str, filled: Large, web: cloaca.web.Server) -> str:
    """Returns a query string, filled with values of this database."""
    values = {"schedule": filled.schedule, "middle": middle(MANY), "prefix": middle(MANY)[:13]}
    values["runner"] = UNKNOWN
    if "{version}" in query:
        workflow = call(f"{web.url}api/v1/workflows/large-2").json()
        values["version"] = workflow["version"]
    return query.format(**values)


@pytest.mark.parametrize("query", FILTERS)
def test_filter_reads_few_rows_in_both_directions(
    query: str, large: tuple[Large, cloaca.web.Server], ask: Callable[[str], tuple[Any, Cost]]
) -> None:
    filled, web = large
    path = f"executions?{filled_query(query, filled, web)}&limit=50"
    page, cost = ask(path)
    check(cost, FILTERS[query])
    if page["next"] is None:
        return
    page, cost = ask(f"{path}&cursor={quote(page['next'])}")
    check(cost, FILTERS[query])
    page, cost = ask(f"{path}&cursor={quote(page['prev'])}")
    check(cost, FILTERS[query])
    assert page["items"]


def check(cost: Cost, indexes: set[str] | None = None) -> None:
    """Asserts that a request used an index, and read and sorted few rows."""
    assert cost.plans
    assert cost.scanned() == []
    assert cost.rows <= FEW_ROWS, cost
    assert cost.pages <= FEW_PAGES, cost
    assert cost.sorted_rows() <= FEW_ROWS, cost
    if indexes:
        used = cost.indexes()
        assert any(name.startswith(tuple(indexes)) for name in used), used


#: Requests of the web page. Other tests check the list of executions, and the requests that count
#: executions.
REQUESTS = [
    "executions/{failed}",
    "executions/{failed}/tasks?limit=200",
    "executions/{failed}/states",
    "executions/{failed}/events?limit=200",
    "executions/{failed}/logs?limit=1000",
    "executions/{failed}/input",
    "executions/{failed}/output",
    "executions/{failed}/children",
    "executions/{delayed}/explain",
    "compare?a={delayed}&b={failed}",
    "waits?limit=200",
    "runners",
    "workflows",
    "workflows/large-1",
    "workflows/large-1/stats?last=200",
    "schedules",
    "schedules/{schedule}/ticks?limit=50",
    "schedules/{schedule}/explain",
]


@pytest.mark.parametrize("request_path", REQUESTS)
def test_page_request_reads_few_rows(
    request_path: str,
    large: tuple[Large, cloaca.web.Server],
    ask: Callable[[str], tuple[Any, Cost]],
) -> None:
    filled, _ = large
    path = request_path.format(
        failed=filled.failed, delayed=filled.delayed, schedule=filled.schedule
    )
    _, cost = ask(path)
    assert cost.scanned() == []
    assert cost.rows <= FEW_ROWS * 2, cost
    assert cost.pages <= FEW_PAGES * 3, cost


def test_count_of_each_state_ends_at_its_cap(ask: Callable[[str], tuple[Any, Cost]]) -> None:
    answer, cost = ask("counts")
    counts = answer["states"]
    assert (counts["Completed"]["value"], counts["Completed"]["kind"]) == (COUNTED, "at_least")
    assert counts["Failed"]["kind"] == "exact"
    assert cost.rows <= 6 * COUNTED + 2 * COUNTED, cost.rows
    assert "cloacina_executions_state" in cost.indexes()
    assert cost.scanned() == [], cost.scanned()


def test_failures_are_grouped_from_a_bounded_number_of_rows(
    ask: Callable[[str], tuple[Any, Cost]],
) -> None:
    answer, cost = ask("failures?since=30d")
    assert {group["error"] for group in answer["items"]} == {"order <n> is not known"}
    assert cost.scanned() == []
    assert cost.rows <= 2 * FEW_ROWS, cost.rows
    assert "cloacina_executions_state" in cost.indexes()


@pytest.mark.parametrize("path", ["attention?since=30d", "attention?since=24h", "waiting"])
def test_overview_reads_little_besides_its_counts(
    path: str, ask: Callable[[str], tuple[Any, Cost]]
) -> None:
    _, cost = ask(path)
    assert cost.scanned() == []
    assert cost.rows <= 2 * COUNTED + 2 * FEW_ROWS, cost.rows


def test_activity_counts_each_bucket_up_to_a_cap(ask: Callable[[str], tuple[Any, Cost]]) -> None:
    answer, cost = ask("activity?since=30d&buckets=48")
    assert len(answer["items"]) == 48
    assert cost.scanned() == []
    # Each bucket counts its executions and, separately, its failed executions.
    assert cost.rows <= 2 * MANY


def test_search_without_an_index_is_bounded(ask: Callable[[str], tuple[Any, Cost]]) -> None:
    answer, cost = ask("executions?input.number=-1&limit=50")
    assert answer["items"] == []
    assert 0 < answer["scanned"] <= BOUND
    assert answer["scanned_until"] is not None
    assert answer["next"] is not None
    assert cost.scanned() == []
    assert cost.rows <= 3 * BOUND + FEW_ROWS, cost.rows
