"""A repeated query parameter of the HTTP API selects what matches any of its values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

import cloaca
import cloaca.web
from waiting_support import wait_until
from web_support import TOKEN, call


class Api:
    """A server of a database with failed executions, children and waits."""

    def __init__(self, url: str) -> None:
        with cloaca.WorkflowBuilder("filters_child"):

            @cloaca.task
            def only(context: cloaca.Context) -> None:
                pass

        with cloaca.WorkflowBuilder("filters_parent"):
            cloaca.child("child", workflow="filters_child")

        with cloaca.WorkflowBuilder("filters_fail"):

            @cloaca.task(retry_attempts=1)
            def fail(context: cloaca.Context) -> None:
                raise RuntimeError(f"the fruit is a {context['fruit']}")

        with cloaca.WorkflowBuilder("filters_ask"):
            cloaca.approval("allow")

        with cloaca.WorkflowBuilder("filters_listen"):
            cloaca.wait("paying", wait_for=cloaca.signal("paid"))
            cloaca.wait("sending", wait_for=cloaca.signal("sent"))

        self.runner = cloaca.DefaultRunner(url)
        run = self.runner.execute
        self.parents = [run("filters_parent").execution_id for _ in range(3)]
        fruits = ("apple", "pear", "plum", "apple")
        self.failed = [run("filters_fail", {"fruit": fruit}).execution_id for fruit in fruits]
        for workflow in ("filters_ask", "filters_listen"):
            self.runner.submit(workflow)
        wait_until(lambda: len(self.runner.waits(limit=10)) == 3)
        self.schedule = self.runner.register_cron_workflow("filters_child", "0 3 * * *", "UTC")
        self.server = cloaca.web.serve(url, token=TOKEN)

    def __call__(self, path: str, **query: Any) -> dict[str, Any]:
        answer = call(f"{self.server.url}api/v1/{path}?{urlencode(query, doseq=True)}")
        assert answer.status == 200, answer.body
        found: dict[str, Any] = answer.json()
        return found

    def ids(self, **query: Any) -> list[str]:
        """Returns the ids of the executions on the first page."""
        return [item["id"] for item in self("executions", **query)["items"]]

    def close(self) -> None:
        self.server.close()
        self.runner.shutdown()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('filters') / 'filters.db'}"
    else:
        server = request.getfixturevalue("server")
        server.sql("CREATE DATABASE web_filters")
        url = f"{server.url.rpartition('/')[0]}/web_filters"
    opened = Api(url)
    yield opened
    opened.close()


def test_repeated_conditions_of_executions_are_alternatives(api: Api) -> None:
    apples = [api.failed[3], api.failed[0]]
    assert api.ids(error="apple") == apples
    assert api.ids(error=["apple", "PEAR"]) == [api.failed[3], api.failed[1], api.failed[0]]
    assert api.ids(id=[api.failed[1], api.failed[2][:30]]) == [api.failed[2], api.failed[1]]
    assert api.ids(id=[api.failed[1], api.failed[2]], error=["plum", "kiwi"]) == [api.failed[2]]
    children = [api.ids(parent=parent)[0] for parent in api.parents]
    assert api.ids(parent=api.parents[:2]) == [children[1], children[0]]
    assert api.ids(schedule=[api.schedule, api.schedule]) == []
    assert api.ids(runner=["0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41", api.schedule]) == []


def test_pages_of_alternatives_repeat_and_omit_nothing(api: Api) -> None:
    query = {"error": ["apple", "pear", "plum"], "limit": 1}
    pages, cursor = [], None
    while True:
        page = api("executions", **query, **({"cursor": cursor} if cursor else {}))
        pages.append(page)
        cursor = page["next"]
        if cursor is None:
            break
    newest_first = api.failed[::-1]
    assert [item["id"] for page in pages for item in page["items"]] == newest_first
    back, cursor = [], pages[-1]["prev"]
    while cursor is not None:
        page = api("executions", **query, cursor=cursor)
        back += [item["id"] for item in page["items"]]
        cursor = page["prev"]
    assert back == api.failed[1:]


def test_too_many_alternatives_are_refused(api: Api) -> None:
    query = urlencode({"error": [str(number) for number in range(21)]}, doseq=True)
    answer = call(f"{api.server.url}api/v1/executions?{query}")
    assert (answer.status, answer.json()["code"]) == (400, "bad_request")


def test_bulk_filter_with_a_list_matches_any_of_its_values(api: Api) -> None:
    body = {"action": "retry", "filter": {"error": ["pear", "plum"]}, "dry_run": True}
    answer = call(f"{api.server.url}api/v1/executions/bulk", "POST", body).json()
    assert (answer["matched"], answer["done"]) == (2, 2)


def test_repeated_conditions_of_waits_are_alternatives(api: Api) -> None:
    def names(**query: Any) -> set[str]:
        return {item["name"] for item in api("waits", **query)["items"]}

    assert names() == {"allow", "paid", "sent"}
    assert names(name=["paid", "allow"]) == {"allow", "paid"}
    assert names(kind=["signal", "approval"]) == {"allow", "paid", "sent"}
    assert names(kind=["signal", "timer"], workflow=["filters_ask", "filters_listen"]) == {
        "paid",
        "sent",
    }
    first = api("waits", name=["paid", "sent"], limit=1)
    second = api("waits", name=["paid", "sent"], limit=1, cursor=first["next"])
    assert {page["items"][0]["name"] for page in (first, second)} == {"paid", "sent"}
    assert second["next"] is None
    back = api("waits", name=["paid", "sent"], limit=1, cursor=second["prev"])
    assert back["items"] == first["items"]


def test_schedules_of_both_kinds_are_listed_together(api: Api) -> None:
    def ids(kind: list[str]) -> list[str]:
        return [item["id"] for item in api("schedules", kind=kind)["items"]]

    assert str(api.schedule) in ids(["cron"])
    assert ids(["trigger", "cron"]) == sorted(ids(["cron"]) + ids(["trigger"]))
