"""The HTTP API answers valid requests and refuses invalid requests as documented."""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import cloaca
import cloaca.web
from waiting_support import wait_until
from web_support import TOKEN, Answer, call

MASK = "•••"


@dataclass
class Day:
    day: str


def code(answer: Answer) -> tuple[int, str]:
    """Returns the HTTP status and the error code of a refused request."""
    return answer.status, answer.json()["code"]


def raw(url: str, path: str, body: bytes, **headers: str) -> tuple[int, bytes]:
    """Sends a POST request with these bytes; returns the status and the body of the response."""
    sent = {
        "Authorization": f"Bearer {TOKEN}",
        "Content-Type": "application/json",
        "X-Cloaca": "1",
    }
    sent.update({name.replace("_", "-"): value for name, value in headers.items()})
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    try:
        connection.request("POST", f"{place.path}{path}", body, sent)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_wait_without_a_timeout_has_no_due_time(database: str) -> None:
    with cloaca.WorkflowBuilder("requests_ask"):
        cloaca.approval("allow", title="Pay it?")

    with (
        cloaca.DefaultRunner(database) as runner,
        cloaca.web.serve(database, token=TOKEN) as server,
    ):
        id = runner.submit("requests_ask").id
        wait_until(lambda: runner.waits(limit=10))
        api = f"{server.url}api/v1/executions/{id}"
        listed = call(f"{api}/tasks").json()["items"][0]
        shown = call(f"{api}/tasks/allow").json()
        export = call(f"{api}/export").json()["tasks"][0]
        for task in (listed, shown, export):
            assert (task["status"], task["ready_at"]) == ("Waiting", None)
        assert call(f"{api}/waits").json()["items"][0]["deadline_at"] is None
        assert b"9223372036854775807" not in call(f"{api}/export?format=html").body
        unknown = call(f"{api}/tasks/nothing/approve", "POST", {"data": 1})
        assert code(unknown) == (404, "not_found")
        assert code(call(f"{api}/tasks/nothing/reject", "POST")) == (404, "not_found")


def test_retry_event_has_its_start_time_as_text(database: str) -> None:
    with cloaca.WorkflowBuilder("requests_retry"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        def flaky(context: cloaca.Context) -> None:
            raise RuntimeError("not yet")

    with (
        cloaca.DefaultRunner(database) as runner,
        cloaca.web.serve(database, token=TOKEN) as server,
    ):
        id = runner.execute("requests_retry").execution_id
        api = f"{server.url}api/v1/executions/{id}"
        listed, export = call(f"{api}/events").json(), call(f"{api}/export").json()
        for events in (listed["items"], export["events"]):
            data = next(event["data"] for event in events if event["type"] == "task_retrying")
            assert data["started_at"].endswith("Z")
            assert isinstance(data["delay_us"], int)


def test_trigger_can_be_enabled_and_disabled_but_not_changed(database: str) -> None:
    with cloaca.WorkflowBuilder("requests_trigger"):

        @cloaca.task
        def only(context: cloaca.Context) -> None:
            pass

    @cloaca.trigger(after="requests_other", on="requests_trigger")
    def follow() -> cloaca.TriggerResult:
        return cloaca.TriggerResult.skip()

    with cloaca.DefaultRunner(database), cloaca.web.serve(database, token=TOKEN) as server:
        api = f"{server.url}api/v1/schedules"
        items = call(f"{api}?kind=trigger").json()["items"]
        id = next(item["id"] for item in items if item["workflow"] == "requests_trigger")
        assert call(f"{api}/{id}").json()["kind"] == "trigger"
        disabled = call(f"{api}/{id}/disable", "POST", {"note": "too many"}).json()
        assert (disabled["enabled"], disabled["switched"]["note"]) == (False, "too many")
        body: dict[str, Any]
        for method, path, body in (
            ("PATCH", id, {"enabled": True}),
            ("DELETE", id, {}),
            ("POST", f"{id}/run-now", {}),
            ("POST", f"{id}/backfill", {"from": "1d"}),
        ):
            refused = call(f"{api}/{path}", method, body)
            assert code(refused) == (422, "schedule_invalid"), path
            assert "trigger" in refused.json()["detail"]
        assert call(f"{api}/{id}/enable", "POST").json()["enabled"] is True


def test_error_for_a_wrong_input_type_points_to_the_input(database: str) -> None:
    with cloaca.WorkflowBuilder("requests_input", input=Day):

        @cloaca.task
        def only(day: str) -> str:
            return day

    with (
        cloaca.DefaultRunner(database) as runner,
        cloaca.web.serve(database, token=TOKEN) as server,
    ):
        # The execution stores the definition of the workflow, so that the server can check inputs.
        runner.execute("requests_input", {"day": "monday"})
        body = {"workflow": "requests_input", "input": {"day": 1}}
        for dry_run in (True, False):
            refused = call(f"{server.url}api/v1/executions", "POST", body | {"dry_run": dry_run})
            assert code(refused) == (422, "workflow_input_invalid")
            assert [error["pointer"] for error in refused.json()["errors"]] == ["/input"]


def test_malformed_requests_are_refused(database: str) -> None:
    with (
        cloaca.DefaultRunner(database),
        cloaca.web.serve(database, token=TOKEN) as server,
    ):
        api = f"{server.url}api/v1/"
        for body in (b"\xff", b"\xef\xbb\xbf{}"):
            status, text = raw(api, "signals", body)
            assert status == 400, text
            assert b"bad_request" in text
        for value in ("0", "true"):
            status, text = raw(api, "signals", b"{}", X_Cloaca=value)
            assert (status, b"cross_site" in text) == (403, True)
        for host in ("localhost,evil.example", "[::1", "[::1]evil.example"):
            assert raw(api, "signals", b"{}", Host=host)[0] == 421, host
        masked = call(f"{api}signals", "POST", {"name": "go", "data": {"a": [MASK]}})
        assert code(masked) == (422, "invalid_parameter")
        assert code(call(f"{api}executions?id=xyz")) == (422, "invalid_parameter")
        assert code(call(f"{api}meta?tenant=nobody")) == (422, "invalid_parameter")


def test_schedule_that_exists_is_answered_with_200(database: str) -> None:
    cloaca.DefaultRunner(database).shutdown()
    with cloaca.web.serve(database, token=TOKEN) as server:
        url = f"{server.url}api/v1/schedules"
        body = {"workflow": "etl", "cron": "0 3 * * *"}
        first, second = call(url, "POST", body), call(url, "POST", body)
        assert (first.status, second.status) == (201, 200)
        assert second.json()["id"] == first.json()["id"]
        assert second.headers["location"] == first.headers["location"]
        other = call(url, "POST", {**body, "name": "other"})
        assert other.status == 201


def test_error_of_a_body_names_the_member_in_plain_words(database: str) -> None:
    cloaca.DefaultRunner(database).shutdown()
    with cloaca.web.serve(database, token=TOKEN) as server:
        api = f"{server.url}api/v1"
        for path, body, detail in [
            ("schedules", {"workflow": "etl"}, "the body: the member 'cron' is missing"),
            ("executions/bulk", {"action": "stop"}, "'stop' is not one of cancel, pause"),
            ("executions", {"workflow": 7}, "/workflow: it must be a string, not 7"),
            (
                "schedules",
                {"workflow": "etl", "cron": "* * * * *", "enabled": "no"},
                "/enabled: it must be true or false, not a string",
            ),
        ]:
            refused = call(f"{api}/{path}", "POST", body)
            assert code(refused) == (422, "invalid_parameter"), refused.body
            assert detail in refused.json()["detail"]
        refused = call(f"{api}/schedules", "POST", {"workflow": "etl", "corn": "* * * * *"})
        assert code(refused) == (400, "unknown_parameter")
        assert refused.json()["hint"] == "did you mean 'cron'?"


def test_activity_answers_conditional_requests(database: str) -> None:
    with cloaca.WorkflowBuilder("requests_activity"):

        @cloaca.task
        def only(context: cloaca.Context) -> None:
            pass

    with (
        cloaca.DefaultRunner(database) as runner,
        cloaca.web.serve(database, token=TOKEN) as server,
    ):
        url = f"{server.url}api/v1/activity"

        def ask(tag: str) -> Answer:
            return call(url, headers={"If-None-Match": tag})

        # The tag also changes with the intervals, about once in 17 minutes, so this is tried again.
        wait_until(lambda: ask(call(url).headers["etag"]).status == 304)
        tag = call(url).headers["etag"]
        runner.execute("requests_activity")
        assert ask(tag).status == 200
