"""The HTTP API: children, steps, waits, and actions on many executions."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from urllib.parse import quote_plus, urljoin

import pytest

import cloaca
import cloaca.web
from web_support import TOKEN, Answer, call


def define() -> None:
    """Defines a child workflow, its parent, a task with steps, and a workflow with an approval."""
    with cloaca.WorkflowBuilder("invoice", input={"order": int}, output="number"):

        @cloaca.task(retry_attempts=1)
        def number(order: int) -> str:
            return f"invoice-{order}"

    with cloaca.WorkflowBuilder("order"):

        @cloaca.task
        def cart(context):
            context["cart"] = {"id": 7}

        for name in ("first", "second"):
            cloaca.child(name, workflow="invoice", dependencies=[cart], input={"order": "cart.id"})

    with cloaca.WorkflowBuilder("agent"):

        @cloaca.task
        def think(context, task: cloaca.TaskHandle):
            for number in range(3):
                task.step(f"step-{number}", lambda number=number: {"secret_key": "s1", "n": number})

    with cloaca.WorkflowBuilder("asks"):
        cloaca.approval("approve", title="Pay it?", to="boss")


@pytest.fixture
def served(database: str) -> Iterator[tuple[cloaca.DefaultRunner, str]]:
    """A runner, and the address of the HTTP API for the runner's database."""
    define()
    with (
        cloaca.DefaultRunner(database) as runner,
        cloaca.web.serve(database, token=TOKEN) as server,
    ):
        yield runner, f"{server.url}api/v1"


def links_of(answer: Answer, url: str) -> dict[str, str]:
    """Returns the URLs in the header `Link`, by their relation."""
    found = re.findall(r'<([^>]+)>; rel="(\w+)"', answer.headers.get("link", ""))
    return {relation: urljoin(url, link) for link, relation in found}


def both_ways(url: str) -> tuple[list[object], list[object]]:
    """Returns two lists: all pages in order, and all pages but the last one in reverse order."""
    forward, back = [], []
    answer = call(url)
    page, links = answer.json(), links_of(answer, url)
    assert page["prev"] is None
    while True:
        forward.append(page["items"])
        assert ("next" in links) == (page["next"] is not None)
        if page["next"] is None:
            break
        assert f"cursor={quote_plus(page['next'])}" in links["next"]
        answer = call(links["next"])
        page, links = answer.json(), links_of(answer, url)
    while page["prev"] is not None:
        answer = call(links["prev"])
        page, links = answer.json(), links_of(answer, url)
        back.append(page["items"])
    return forward, back


def test_children_are_listed_below_their_parent(served):
    runner, api = served
    parent = runner.execute("order", {}).execution_id
    children = call(f"{api}/executions/{parent}/children").json()["items"]
    assert {child["task"] for child in children} == {"first", "second"}
    assert {child["workflow"] for child in children} == {"invoice"}
    assert {child["parent"] for child in children} == {parent}
    assert [child["generation"] for child in children] == [1, 1]
    listed = call(f"{api}/executions?parent={parent}").json()["items"]
    assert [item["id"] for item in listed] == [child["id"] for child in children]
    shown = call(f"{api}/executions/{children[0]['id']}").json()
    assert shown["parent"] == parent
    # Without the filter `parent`, the list contains only executions that are not children.
    assert [item["id"] for item in call(f"{api}/executions").json()["items"]] == [parent]
    forward, back = both_ways(f"{api}/executions/{parent}/children?limit=1")
    assert (len(forward), back) == (2, forward[:1])
    refused = call(f"{api}/executions/{children[0]['id']}", "DELETE")
    assert (refused.status, refused.json()["code"]) == (409, "execution_state")
    assert call(f"{api}/executions/{parent}", "DELETE").status == 204
    assert call(f"{api}/executions/{children[0]['id']}", "DELETE").status == 204


def test_parent_with_an_open_child_cannot_be_deleted(served):
    runner, api = served
    with cloaca.WorkflowBuilder("sleeper"):
        cloaca.wait("nap", wait_for=cloaca.delay("1h"))

    with cloaca.WorkflowBuilder("parent"):
        cloaca.child("child", workflow="sleeper", on_parent_end="abandon")

    parent = runner.submit("parent")
    [child] = runner.children(parent.id)
    parent.cancel()
    assert parent.result(timeout=30).status == "Cancelled"
    refused = call(f"{api}/executions/{parent.id}", "DELETE")
    assert (refused.status, refused.json()["code"]) == (409, "execution_state")
    assert "a child or its final tasks are open" in refused.json()["detail"]
    runner.cancel_execution(child.execution_id)
    assert runner.get_handle(child.execution_id).result(timeout=30).status == "Cancelled"
    assert call(f"{api}/executions/{parent.id}", "DELETE").status == 204


def test_steps_are_listed_and_their_values_need_a_permission(served):
    runner, api = served
    id = runner.execute("agent", {}).execution_id
    url = f"{api}/executions/{id}/tasks/think/steps"
    steps = call(url).json()["items"]
    assert [step["key"] for step in steps] == ["step-0", "step-1", "step-2"]
    assert steps[1]["value"] == {"secret_key": "•••", "n": 1}
    assert (steps[0]["position"], steps[0]["attempt"]) == (0, 1)
    forward, back = both_ways(f"{url}?limit=1")
    assert (len(forward), back) == (3, forward[1::-1])
    options = cloaca.web.Access("ann", ["view"])
    app = cloaca.web.wsgi(runner, authorize=lambda request: options)
    for path in ("tasks/think/steps", "events", "tasks/think/attempts", "export"):
        text = wsgi_get(app, f"/api/v1/executions/{id}/{path}")
        assert '"n":1' not in text.replace(" ", ""), path
        assert "step-1" in text, path


def test_value_of_a_step_named_like_a_secret_is_masked(served):
    runner, api = served

    @cloaca.workflow
    def log_in(handle: cloaca.TaskHandle) -> None:
        handle.step("db_password", lambda: "hunter2-long")
        handle.step("row", lambda: "hunter3-long")

    id = runner.execute("log_in", {}).execution_id
    for path in ("tasks/log_in/steps", "events", "tasks/log_in/attempts", "export"):
        text = call(f"{api}/executions/{id}/{path}").body.decode()
        assert "hunter2" not in text, path
    assert "hunter3" in call(f"{api}/executions/{id}/tasks/log_in/steps").body.decode()


def wsgi_get(app, path: str) -> str:
    """Sends a GET request to a WSGI application, and returns the body of its response."""
    from wsgiref.util import setup_testing_defaults

    environ = {"PATH_INFO": path, "HTTP_HOST": "127.0.0.1"}
    setup_testing_defaults(environ)
    statuses = []
    body = b"".join(app(environ, lambda status, headers: statuses.append(status)))
    assert statuses[0].startswith("200"), (statuses, body)
    return body.decode()


def test_waits_are_paged_both_ways_and_can_be_approved(served):
    runner, api = served
    handles = [runner.submit("asks") for _ in range(5)]
    deadline = time.monotonic() + 20
    while len(call(f"{api}/waits").json()["items"]) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    forward, back = both_ways(f"{api}/waits?limit=2")
    assert [len(page) for page in forward] == [2, 2, 1]
    assert back == forward[1::-1]
    assert forward[0][0]["title"] == "Pay it?"
    path = f"{api}/executions/{handles[0].id}/tasks/approve"
    assert call(f"{path}/approve", "POST", {"data": {"sum": 3}}).status == 200
    again = call(f"{path}/approve", "POST", {})
    assert again.status == 409
    assert handles[0].result(timeout=20).status == "Completed"


def test_bulk_cancel_ends_all_matching_executions(served):
    runner, api = served
    handles = [runner.submit("agent", delay=3600) for _ in range(230)]
    body = {"action": "cancel", "filter": {"status": ["Pending"]}, "limit": 200, "note": "wrong"}
    done, cursor = 0, None
    while True:
        given = body if cursor is None else {**body, "cursor": cursor}
        answer = call(f"{api}/executions/bulk", "POST", given).json()
        assert answer["refused"] == []
        done += answer["done"]
        cursor = answer["next"]
        if cursor is None:
            break
    assert done == 230
    assert {str(handle.status()) for handle in handles} == {"Cancelled"}
    events = call(f"{api}/executions/{handles[3].id}/events").json()["items"]
    cancelled = [event["data"] for event in events if event["type"] == "cancelled"]
    assert cancelled[0]["note"] == "wrong", json.dumps(events)
