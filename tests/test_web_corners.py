"""The HTTP API does only what a request asks for, and never reveals a masked value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest

import cloaca
import cloaca.web
from web_support import TOKEN, Answer, Filled, call

MASK = "•••"
SECRET = "hunter2-s3cr3t"


class Api:
    """A database with executions and a schedule that contain secrets, and its server."""

    def __init__(self, url: str) -> None:
        with cloaca.WorkflowBuilder("corners"):

            @cloaca.task
            def only(context: cloaca.Context) -> None:
                pass

        self.filled = Filled(url)
        runner = self.filled.runner
        secret = {"password": SECRET, "db": {"password": SECRET}, "n": 1}
        self.id = runner.execute("corners", secret).execution_id
        for number in (2, 3):
            runner.execute("corners", {"n": number})
        self.labelled = runner.submit("corners", labels={"secret_token": SECRET, "team": "a"}).id
        self.schedule = runner.register_cron_workflow(
            "corners", "0 3 * * *", "UTC", input={"password": SECRET, "day": 1}
        )
        runner.wait_until_idle(timeout=60)
        self.server = cloaca.web.serve(url, token=TOKEN)

    def __call__(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return call(f"{self.server.url}api/v1/{path}", method, body, names)

    def count(self, **query: object) -> int:
        """Returns the number of executions on the first page of the list for a query."""
        answer = self(f"executions?{urlencode(query, doseq=True)}")
        assert answer.status == 200, answer.body
        return len(answer.json()["items"])

    def close(self) -> None:
        self.server.close()
        self.filled.close()


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    opened = Api(f"sqlite:///{tmp_path_factory.mktemp('corners') / 'corners.db'}")
    yield opened
    opened.close()


def code(answer: Answer) -> tuple[int, str]:
    """Returns the HTTP status and the error code of a refused request."""
    return answer.status, answer.json()["code"]


def test_search_in_logs_finds_no_masked_secret(database: str) -> None:
    with cloaca.WorkflowBuilder("corners_logs"):

        @cloaca.task
        def log_in(context: cloaca.Context) -> None:
            print(f"using password {context['password']} now")

    config = cloaca.DefaultRunnerConfig(capture_logs=True)
    with (
        cloaca.DefaultRunner.with_config(database, config) as runner,
        cloaca.web.serve(database, token=TOKEN) as server,
    ):
        id = runner.execute("corners_logs", {"password": SECRET}).execution_id

        def lines(text: str) -> list[str]:
            found = call(f"{server.url}api/v1/executions/{id}/logs?q={quote(text)}")
            return [line["message"] for line in found.json()["items"]]

        assert lines("using password") == [f"using password {MASK} now"]
        for part in (SECRET, SECRET[:5], f"password {SECRET[0]}"):
            assert lines(part) == []


def test_raw_download_hides_secrets(api: Api) -> None:
    filled = api.filled
    hidden = {"password": MASK, "db": {"password": MASK}, "n": 1}
    whole = {"day": "2026-01-01", "rows": [1, 2, 3], "api_key": MASK}
    downloads = {
        f"{api.id}/input": hidden,
        f"{api.id}/output": hidden,
        f"{api.id}/tasks/only/view": hidden,
        f"{filled.completed}/output": whole,
        f"{filled.completed}/tasks/extract/output": {"s": {"rows": [1, 2, 3], "api_key": MASK}},
        f"{filled.completed}/tasks/load/view": whole,
    }
    for path, value in downloads.items():
        answer = api(f"executions/{path}?raw=true")
        assert answer.status == 200, path
        assert SECRET.encode() not in answer.body, path
        assert b"sk-live" not in answer.body, path
        assert answer.json() == value, path


def test_tenant_removed_while_it_is_served_is_unknown(
    fresh_postgres: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    url = fresh_postgres()
    admin = cloaca.DatabaseAdmin(url)
    user = f"gone_{url.rpartition('/')[2][:20]}"
    cloaca.DefaultRunner(url).shutdown()
    with cloaca.web.serve(url, token=TOKEN) as server:
        path = f"{server.url}api/v1/executions?tenant=gone"
        for _ in range(2):
            admin.create_tenant(cloaca.TenantConfig("gone", user))
            assert call(path).status == 200
            admin.remove_tenant("gone", user)
            for _ in range(2):
                refused = call(path)
                assert code(refused) == (422, "invalid_parameter")
                assert "tenant 'gone' is not known" in refused.json()["detail"]
    assert [line.message for line in caplog.records if line.levelname == "ERROR"] == []


def test_raw_download_has_the_value_of_the_tenant(fresh_postgres: Callable[[], str]) -> None:
    url = fresh_postgres()
    admin = cloaca.DatabaseAdmin(url)
    with cloaca.WorkflowBuilder("corners"):

        @cloaca.task
        def only(context: cloaca.Context) -> None:
            context["written_by"] = context["tenant"]

    ids = {}
    for name in ("raw_red", "raw_blue"):
        admin.create_tenant(cloaca.TenantConfig(name, f"{name}_{url.rpartition('/')[2][:20]}"))
        with cloaca.DefaultRunner.with_schema(url, name) as runner:
            ids[name] = runner.execute("corners", {"tenant": name}).execution_id
    cloaca.DefaultRunner(url).shutdown()
    with cloaca.web.serve(url, token=TOKEN) as server:
        api = f"{server.url}api/v1/executions"
        for name, id in ids.items():
            own, other = name, next(one for one in ids if one != name)
            for part in ("input", "output", "tasks/only/view", "tasks/only/output"):
                path = f"{api}/{id}/{part}?raw=true"
                answer = call(f"{path}&tenant={own}")
                assert answer.status == 200, answer.body
                assert own.encode() in answer.body, part
                assert other.encode() not in answer.body, part
                for wrong in (f"{path}&tenant={other}", path):
                    assert code(call(wrong)) == (404, "execution_not_found"), wrong


def test_search_in_errors_finds_no_masked_secret(database: str) -> None:
    with cloaca.WorkflowBuilder("corners_errors"):

        @cloaca.task(retry_attempts=1)
        def connect(context: cloaca.Context) -> None:
            raise RuntimeError(f"cannot connect with password={SECRET}")

    with (
        cloaca.DefaultRunner(database) as runner,
        cloaca.web.serve(database, token=TOKEN) as server,
    ):
        runner.execute("corners_errors")

        def errors(text: str) -> list[str]:
            found = call(f"{server.url}api/v1/executions?error={quote(text)}").json()["items"]
            return [item["error"]["message"] for item in found]

        assert errors("CONNECT with") == [f"cannot connect with password={MASK}"]
        assert errors("runtimeerror") == [f"cannot connect with password={MASK}"]
        for part in (SECRET, SECRET[:5], f"password={SECRET[0]}"):
            assert errors(part) == []
            filter = {"action": "cancel", "filter": {"error": part}, "dry_run": True}
            answer = call(f"{server.url}api/v1/executions/bulk", "POST", filter)
            assert answer.json()["matched"] == 0


@pytest.mark.parametrize(
    "list", ["executions/{}/tasks", "executions/{}/events", "executions/{}/logs", "waits"]
)
def test_malformed_or_foreign_cursor_is_refused(api: Api, list: str) -> None:
    for cursor in ("n0.00000000", "0", "n0", ""):
        answer = api(f"{list.format(api.id)}?cursor={cursor}")
        assert code(answer) == (422, "invalid_parameter"), (list, cursor)


@pytest.mark.parametrize(
    "query",
    [
        {"input.password": SECRET},
        {"input.db": f'{{"password":"{SECRET}"}}'},
        {"input.db.password": SECRET},
        {"label.secret_token": SECRET},
    ],
)
def test_search_for_a_secret_value_is_refused(api: Api, query: dict[str, str]) -> None:
    assert code(api(f"executions?{urlencode(query)}")) == (403, "forbidden")
    filter = {"action": "cancel", "filter": query, "dry_run": True}
    assert code(api("executions/bulk", "POST", filter)) == (403, "forbidden")


def test_repeated_parameter_means_any_of_its_values(api: Api) -> None:
    assert api.count(**{"input.n": [1, 2]}) == 2
    assert api.count(**{"input.n": [1, 2], "input.db.x": 1}) == 0
    filter = {"input.n": ["1", "2", "7"]}
    answer = api("executions/bulk", "POST", {"action": "retry", "filter": filter, "dry_run": True})
    assert answer.json()["matched"] == 2


@pytest.mark.parametrize("filter", [{"workflow": []}, {"status": []}, {"label": {}}])
def test_bulk_action_with_an_empty_filter_value_is_refused(
    api: Api, filter: dict[str, Any]
) -> None:
    answer = api("executions/bulk", "POST", {"action": "pause", "filter": filter})
    assert code(answer) == (422, "invalid_parameter")


def test_unknown_parameter_value_is_refused(api: Api) -> None:
    for path in (
        f"executions/{api.id}/export?format=xml",
        f"executions/{api.id}/export?format=HTML",
        "waits?kind=x",
    ):
        assert code(api(path)) == (422, "invalid_parameter"), path


def test_deletion_with_a_body_deletes_nothing(api: Api) -> None:
    id = api.filled.runner.execute("corners", {"n": 4}).execution_id
    for path in (f"executions/{id}", f"schedules/{api.schedule}"):
        assert code(api(path, "DELETE", {"dry_run": True})) == (400, "unknown_parameter")
        assert api(path).status == 200
    assert api(f"executions/{id}", "DELETE").status == 204


def test_changes_of_an_execution_obey_if_match(api: Api) -> None:
    id = api.filled.runner.execute("corners", {"n": 5}).execution_id
    ask = api.filled.runner.submit("web_ask").id
    path = f"executions/{ask}/tasks/allow"
    for method, changed, body in (
        ("DELETE", f"executions/{id}", None),
        ("POST", f"executions/{id}/rerun", None),
        ("POST", f"{path}/approve", {"data": 1}),
        ("POST", f"{path}/reject", None),
    ):
        refused = api(changed, method, body, If_Match='"777"')
        assert code(refused) == (412, "revision_mismatch"), changed
    tag = api(f"executions/{id}").headers["etag"]
    assert api(f"executions/{id}", "DELETE", If_Match=tag).status == 204
    approved = api(f"{path}/approve", "POST", {"reason": "it is due"}, If_Match="*")
    assert approved.status == 200
    result = api.filled.runner.get_handle(ask).result(timeout=30)
    assert result.final_context["allow"]["reason"] == "it is due"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("executions", {"workflow": 7}, "/workflow"),
        ("executions", {"workflow": "corners", "labels": {"a/b~c": [1]}}, "/labels/a~1b~0c"),
        ("executions/bulk", {"action": "cancel", "ids": ["x", 7]}, "/ids/1"),
        ("executions", [], ""),
    ],
)
def test_error_points_to_the_invalid_part(api: Api, path: str, body: Any, pointer: str) -> None:
    answer = api(path, "POST", body)
    assert code(answer) == (422, "invalid_parameter")
    (error,) = answer.json()["errors"]
    assert error["pointer"] == pointer
    assert answer.json()["detail"].startswith(f"{pointer or 'the body'}: ")


def test_mask_is_never_stored_in_place_of_a_secret(api: Api) -> None:
    body: dict[str, Any]
    for method, path, body in (
        ("POST", "executions", {"workflow": "corners", "input": {"db": [{"password": MASK}]}}),
        ("POST", "executions", {"workflow": "corners", "labels": {"secret_token": MASK}}),
        ("POST", f"executions/{api.id}/rerun", {"labels": {"secret_token": MASK}}),
        ("PATCH", f"schedules/{api.schedule}", {"input": {"password": MASK}}),
        ("POST", "schedules", {"workflow": "corners", "cron": "1 3 * * *", "input": {"p": MASK}}),
    ):
        answer = api(path, method, body)
        assert code(answer) == (422, "invalid_parameter"), body
        assert "redacted" in answer.json()["detail"], body


def test_unchanged_secret_of_a_schedule_is_kept(api: Api) -> None:
    change = {"input": {"password": {"$keep": "password"}, "day": 2}}
    assert api(f"schedules/{api.schedule}", "PATCH", change).status == 200
    runner = api.filled.runner
    started = runner.run_cron_schedule_now(api.schedule)
    context = runner.get_handle(started).result(timeout=30).final_context
    assert (context["password"], context["day"]) == (SECRET, 2)


def test_start_time_cannot_be_a_span_before_now(api: Api) -> None:
    body = {"workflow": "corners", "start_at": "5m"}
    assert code(api("executions", "POST", body)) == (422, "invalid_parameter")
    change = {"start_at": "5m"}
    assert code(api(f"schedules/{api.schedule}", "PATCH", change)) == (422, "invalid_parameter")


def test_wrong_type_in_a_body_is_an_invalid_parameter(api: Api) -> None:
    for action in (1, None, True):
        answer = api("executions/bulk", "POST", {"action": action, "ids": []})
        assert code(answer) == (422, "invalid_parameter")


def test_link_of_a_token_with_punctuation_logs_in(api: Api) -> None:
    token = "aaaaaaaaaaaaaaaa+b%41&c#d=?/"
    with cloaca.web.serve(api.filled.url, token=token) as server:
        answer = call(server.link, token=None)
        assert (answer.status, "set-cookie" in answer.headers) == (303, True)
        assert call(f"{server.url}api/v1/meta", token=token).status == 200


@pytest.mark.parametrize(
    "token", ["x" * 15 + "\n", "é" * 20, "a token with spaces", "x" * 16 + ";"]
)
def test_token_that_a_header_cannot_carry_is_refused(api: Api, token: str) -> None:
    with pytest.raises(cloaca.ConfigurationError, match="a token must consist of"):
        cloaca.web.serve(api.filled.url, token=token)
