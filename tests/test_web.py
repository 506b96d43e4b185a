"""`cloaca ui` and `cloaca.web.serve`: the HTTP API on a port, with SQLite and PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cloaca
import cloaca.web
from web_support import TOKEN, Filled, call

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = json.loads((ROOT / "crates" / "cloacina-web" / "openapi.json").read_text())


@pytest.fixture
def filled(database: str) -> Iterator[Filled]:
    filled = Filled(database)
    yield filled
    filled.close()


@pytest.fixture
def web(filled: Filled) -> Iterator[cloaca.web.Server]:
    with cloaca.web.serve(filled.url, token=TOKEN) as server:
        yield server


def curl(web: cloaca.web.Server, *arguments: str) -> str:
    """Runs curl with the headers that every request needs, and returns its output."""
    headers = [f"Authorization: Bearer {TOKEN}", "Content-Type: application/json", "X-Cloaca: 1"]
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--max-time", "30"]
    for header in headers:
        command += ["--header", header]
    *options, path = arguments
    done = subprocess.run(
        [*command, *options, f"{web.url}api/v1/{path}"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def curl_until(web: cloaca.web.Server, path: str, member: str, wanted: object) -> None:
    """Repeats a request with curl until a member of the response has the wanted value."""
    for _ in range(200):
        found = json.loads(curl(web, path))[member]
        if found == wanted:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path}: {member} is {found}, not {wanted}")


@needs_curl
def test_curl_can_approve_an_execution(web: cloaca.web.Server) -> None:
    body = json.dumps({"workflow": "web_ask"})
    id = json.loads(curl(web, "--data", body, "executions"))["id"]
    curl_until(web, f"executions/{id}/tasks/allow", "status", "Waiting")
    waiting = json.loads(curl(web, f"executions/{id}/tasks?state=Waiting"))["items"]
    assert [task["id"] for task in waiting] == ["allow"]
    waits = json.loads(curl(web, f"executions/{id}/waits"))["items"]
    assert [(wait["kind"], wait["title"]) for wait in waits] == [("approval", "Pay it?")]
    decision = json.dumps({"by": "ann", "reason": "checked"})
    curl(web, "--data", decision, f"executions/{id}/tasks/allow/approve")
    curl_until(web, f"executions/{id}", "status", "Completed")


@needs_curl
def test_curl_can_submit_follow_and_cancel_executions(web: cloaca.web.Server) -> None:
    body = json.dumps({"workflow": "web_etl", "input": {"day": "2026-01-02"}})
    submitted = json.loads(curl(web, "--data", body, "executions"))
    path = f"executions/{submitted['id']}"
    curl_until(web, path, "status", "Completed")
    output = json.loads(curl(web, f"{path}/output"))["value"]
    assert (output["rows"], output["api_key"]) == ([1, 2, 3], "•••")
    later = json.dumps({"workflow": "web_etl", "delay": 3600})
    waiting = json.loads(curl(web, "--data", later, "executions"))["id"]
    cancelled = json.loads(curl(web, "--data", "{}", f"executions/{waiting}/cancel"))
    assert cancelled["status"] == "Cancelled"


def test_every_get_route_returns_the_required_members(
    web: cloaca.web.Server, filled: Filled
) -> None:
    runners = call(f"{web.url}api/v1/runners").json()["items"]
    version = call(f"{web.url}api/v1/workflows/web_etl").json()["version"]
    for path, methods in DOCUMENT["paths"].items():
        operation = methods.get("get")
        # Skips the stream, which does not end, and the route for items, which needs a map.
        if operation is None or path.endswith(("/stream", "/items")):
            continue
        ids = {"schedules": filled.schedule, "runners": runners[0]["id"]}
        group = path.split("/")[3] if path.count("/") > 2 else ""
        url = path.replace("{id}", ids.get(group, filled.completed)).replace("{task}", "extract")
        url = url.replace("{name}", "web_etl").replace("{version}", version)
        required = [
            p["name"]
            for p in operation.get("parameters", ())
            if p["in"] == "query" and p["required"]
        ]
        query = "&".join(
            f"{name}={filled.failed if name in 'ab' else '@daily'}" for name in required
        )
        answer = call(f"{web.url.rstrip('/')}{url}?{query}")
        assert answer.status == 200, (path, answer.body)
        content = operation["responses"]["200"].get("content")
        if content and "application/json" in content:
            check(answer.json(), content["application/json"]["schema"], path)


def check(value: object, schema: dict[str, object], where: str) -> None:
    """Asserts that a value has the required members of its schema."""
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][str(schema["$ref"]).rpartition("/")[2]]
    for part in schema.get("allOf", ()):  # type: ignore[union-attr,attr-defined]
        check(value, part, where)
    properties = schema.get("properties")
    if isinstance(value, dict) and isinstance(properties, dict):
        missing = set(schema.get("required", ())) - set(value)  # type: ignore[call-overload]
        assert not missing, (where, missing)
        if "allOf" not in schema:
            for name, part in properties.items():
                if value.get(name) is not None:
                    check(value[name], part, f"{where}.{name}")
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            check(item, schema["items"], f"{where}[]")  # type: ignore[arg-type]


def test_stream_reports_changes(web: cloaca.web.Server, filled: Filled) -> None:
    request = urllib.request.Request(
        f"{web.url}api/v1/stream", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=30) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        lines = iter(stream)
        first = [next(lines) for _ in range(5)]
        assert first[0] == b"retry: 2000\n"
        assert first[2] == b"event: open\n"
        filled.runner.execute("web_etl", {})
        seen = b""
        while b"event: changed" not in seen:
            seen = next(lines)


def test_reconnected_stream_reports_whether_changes_were_missed(
    web: cloaca.web.Server,
) -> None:
    for last, event in (("0-0", b"changed"), (None, b"open")):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        if last is not None:
            headers["Last-Event-ID"] = last
        request = urllib.request.Request(f"{web.url}api/v1/stream", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as stream:
            lines = [stream.readline() for _ in range(3)]
        assert lines[2] == b"event: " + event + b"\n"


def test_ninth_stream_of_a_user_is_refused(web: cloaca.web.Server) -> None:
    request = urllib.request.Request(
        f"{web.url}api/v1/stream", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    streams = [urllib.request.urlopen(request, timeout=30) for _ in range(8)]
    try:
        answer = call(f"{web.url}api/v1/stream")
        assert (answer.status, answer.json()["code"]) == (429, "too_many_requests")
    finally:
        for stream in streams:
            stream.close()


def test_token_of_the_link_becomes_a_cookie_of_this_port(web: cloaca.web.Server) -> None:
    answer = call(web.link, token=None)
    assert (answer.status, answer.headers["location"]) == (303, "?")
    page = f"{web.url}executions?status=Failed&token={TOKEN}&input.a=b%20c"
    answer = call(page, token=None)
    assert (answer.status, answer.headers["location"]) == (303, "?status=Failed&input.a=b+c")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"cloaca-{web.port}={TOKEN};")
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    pair = cookie.split(";")[0]
    assert call(web.url, headers={"Cookie": pair}, token=None).status == 200
    assert call(web.url, token=None).status == 401


def test_answers_contain_no_secret(web: cloaca.web.Server, filled: Filled) -> None:
    path = f"{web.url}api/v1/executions/{filled.failed}"
    for what in ("", "/tasks", "/tasks/load", "/events", "/explain", "/input", "/logs"):
        answer = call(path + what)
        assert answer.status == 200
        assert b"hunter2-long" not in answer.body, what


def test_secret_numbers_and_lines_are_masked_in_logs_errors_and_exports(database: str) -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\n-----END KEY-----\n"

    with cloaca.WorkflowBuilder("web_keys"):

        @cloaca.task(retry_attempts=0)
        def sign(context):
            print(context["private_key"])
            print("pin", context["api_key"], "of", [context["private_key"]])
            print(json.dumps(context["private_key"]))
            raise ValueError(f"cannot sign with {context['private_key']!r}, {context['api_key']}")

    config = cloaca.DefaultRunnerConfig(capture_logs=True)
    with (
        cloaca.DefaultRunner.with_config(database, config) as runner,
        cloaca.web.serve(database, token=TOKEN) as server,
    ):
        secrets = {"private_key": key, "api_key": 1234567890123}
        failed = runner.execute("web_keys", secrets).execution_id
        path = f"{server.url}api/v1/executions/{failed}"
        for what in ("", "/tasks", "/tasks/sign/attempts", "/events", "/explain", "/logs"):
            check_masked(call(path + what).body, what)
        for what in ("json", "html"):
            check_masked(call(f"{path}/export?format={what}").body, what)
        assert "•••" in call(f"{path}/logs").body.decode()


def check_masked(body: bytes, what: str) -> None:
    for part in (b"KEY---", b"MIIEvQ", b"1234567890123"):
        assert part not in body, (what, body)


def test_read_only_server_refuses_a_submission(filled: Filled) -> None:
    with cloaca.web.serve(filled.url, token=TOKEN, read_only=True) as server:
        answer = call(f"{server.url}api/v1/executions", "POST", {"workflow": "web_etl"})
        assert (answer.status, answer.json()["code"]) == (403, "read_only")
        assert call(f"{server.url}api/v1/meta").json()["permissions"] == ["view", "view_payloads"]


def test_execution_is_linked_to_its_trace(filled: Filled) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    carrier = json.dumps({"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    request = cloaca._core.SubmitRequest("web_etl").with_trace(carrier)
    (submitted,) = filled.runner._core.submit([request])
    template = "https://traces.example.com/{trace_id}?execution={execution_id}"
    with cloaca.web.serve(filled.url, token=TOKEN, trace_url=template) as server:
        api = f"{server.url}api/v1/executions"
        found = call(f"{api}/{submitted.execution_id}").json()["trace_url"]
        assert found == f"https://traces.example.com/{trace}?execution={submitted.execution_id}"
        assert call(f"{api}/{filled.failed}").json()["trace_url"] is None
    with pytest.raises(cloaca.ConfigurationError, match="http or https"):
        cloaca.web.serve(filled.url, token=TOKEN, trace_url="javascript:alert(1)")


def test_browser_gets_a_page_for_an_unknown_path(web: cloaca.web.Server) -> None:
    for accept, kind in (("text/html", "text/html"), ("*/*", "application/problem+json")):
        answer = call(f"{web.url}nothing/%3Cb%3E", headers={"Accept": accept})
        assert answer.status == 404
        headers = {name.lower(): value for name, value in answer.headers.items()}
        assert headers["content-type"].startswith(kind)
    api = call(f"{web.url}api/v1/nothing", headers={"Accept": "text/html"})
    assert api.json()["code"] == "not_found"


def test_execution_that_runs_too_long_needs_attention(filled: Filled) -> None:
    release = threading.Event()
    with cloaca.WorkflowBuilder("web_slow"):

        @cloaca.task()
        def work(context: cloaca.Context) -> None:
            if context.get("waits"):
                release.wait(60)

    for _ in range(5):
        filled.runner.execute("web_slow", check=True)
    slow = filled.runner.submit("web_slow", {"waits": True})
    with cloaca.web.serve(filled.url, token=TOKEN) as server:
        found = []
        deadline = time.monotonic() + 60
        while not found and time.monotonic() < deadline:
            found = call(f"{server.url}api/v1/attention").json()["overdue"]
            time.sleep(0.5)
    release.set()
    assert [(item["execution"], item["workflow"]) for item in found] == [(slow.id, "web_slow")]
    assert found[0]["running_us"] > 3 * found[0]["usual_us"]


def test_runner_can_be_passed_instead_of_a_database_url(filled: Filled) -> None:
    with cloaca.web.serve(filled.runner, token=TOKEN) as server:
        found = call(f"{server.url}api/v1/executions").json()["items"]
    assert {item["id"] for item in found} == {filled.completed, filled.failed}


def test_server_that_other_machines_can_reach_needs_a_token(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/web.db"
    cloaca.DefaultRunner(url).shutdown()
    with pytest.raises(cloaca.ConfigurationError, match="other machines"):
        cloaca.web.serve(url, host="0.0.0.0", no_token=True)
    with pytest.raises(cloaca.ConfigurationError, match="16 characters"):
        cloaca.web.serve(url, token="short")
    with cloaca.web.serve(url, no_token=True) as server:
        assert call(f"{server.url}api/v1/meta", token=None).json()["user"] == "local"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"port": "8"}, "a port must be a number from 0 to 65535, not '8'"),
        ({"port": True}, "a port must be a number from 0 to 65535, not True"),
        ({"token": 3}, "token must be a string, not int"),
        ({"host": 3}, "host must be a string, not int"),
        ({"schema": 3}, "schema must be a string, not int"),
        ({"trace_url": 3}, "trace_url must be a string, not int"),
        ({"redact": [3]}, "redact must contain strings, not int"),
        ({"redact": 3}, "redact must be a collection of strings, not int"),
        ({"allowed_hosts": [None]}, "allowed_hosts must contain strings, not NoneType"),
    ],
)
def test_serve_refuses_arguments_of_wrong_types(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    url = f"sqlite:///{tmp_path}/web.db"
    cloaca.DefaultRunner(url).shutdown()
    with pytest.raises(cloaca.ConfigurationError) as caught:
        cloaca.web.serve(url, **options).close()
    assert caught.value.message == message


def test_database_in_memory_cannot_be_served() -> None:
    def serve(database: Any) -> None:
        cloaca.web.serve(database).close()

    def asgi(database: Any) -> None:
        cloaca.web.asgi(database, authorize=lambda _: None)

    def wsgi(database: Any) -> None:
        cloaca.web.wsgi(database, authorize=lambda _: None)

    with cloaca.DefaultRunner("sqlite://:memory:") as runner:
        for make in (serve, asgi, wsgi):
            for database in (runner, ":memory:", "sqlite://:memory:", "sqlite:///:memory:"):
                with pytest.raises(cloaca.ConfigurationError, match="in memory cannot") as caught:
                    make(database)
                assert "use a file" in str(caught.value.hint)


def test_tenants_of_a_database_are_listed(web: cloaca.web.Server, filled: Filled) -> None:
    if filled.url.startswith("sqlite"):
        assert call(f"{web.url}api/v1/tenants").json()["items"] == []
        return
    admin = cloaca.DatabaseAdmin(filled.url)
    admin.create_tenant(cloaca.TenantConfig("acme_web", f"acme_web_{os.getpid()}"))
    schemas = [item["schema"] for item in call(f"{web.url}api/v1/tenants").json()["items"]]
    assert "acme_web" in schemas
    assert call(f"{web.url}api/v1/executions?tenant=acme_web").json()["items"] == []
    unknown = call(f"{web.url}api/v1/executions?tenant=nobody")
    assert (unknown.status, unknown.json()["code"]) == (422, "invalid_parameter")


class Ui:
    """`cloaca ui` as a process."""

    def __init__(self, url: str, *options: str, **environment: str) -> None:
        command = [sys.executable, "-m", "cloaca", "ui", "-c", url, "--no-open", *options]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        self.link = self.process.stdout.readline().strip()

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return self.process.returncode


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ui_prints_a_link_with_the_same_token_at_each_start(tmp_path: Path, number) -> None:
    url = f"sqlite:///{tmp_path}/web.db"
    cloaca.DefaultRunner(url).shutdown()
    links = []
    for _ in range(2):
        ui = Ui(url, "--port", "0", XDG_STATE_HOME=str(tmp_path))
        match = re.fullmatch(r"(http://127\.0\.0\.1:\d+/)\?token=([\w-]{43})", ui.link)
        assert match, ui.link
        links.append(match[2])
        assert call(f"{match[1]}api/v1/meta", token=match[2]).status == 200
        assert call(f"{match[1]}api/v1/meta", token=None).status == 401
        assert ui.stop(number) == 0
    assert links[0] == links[1]
    kept = tmp_path / "cloaca" / "ui-token"
    assert kept.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX file modes")
@pytest.mark.parametrize("is_given", [False, True])
def test_ui_makes_a_world_readable_token_file_private(tmp_path: Path, is_given: bool) -> None:
    url = f"sqlite:///{tmp_path}/web.db"
    cloaca.DefaultRunner(url).shutdown()
    file = tmp_path / "cloaca" / "ui-token"
    file.parent.mkdir()
    file.write_text(TOKEN)
    file.chmod(0o644)
    options = ("--token-file", str(file)) if is_given else ()
    ui = Ui(url, "--port", "0", *options, XDG_STATE_HOME=str(tmp_path), CLOACA_UI_TOKEN="")
    assert ui.link.endswith(f"?token={TOKEN}")
    assert file.stat().st_mode & 0o777 == 0o600
    assert ui.stop(signal.SIGTERM) == 0


def test_ui_refuses_a_token_file_that_stays_world_readable(tmp_path: Path, monkeypatch) -> None:
    from cloaca._cli.ui import _protect

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o644)
    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(cloaca.ConfigurationError, match="every user can read") as caught:
        _protect(file)
    assert "chmod 600" in str(caught.value.hint)
    monkeypatch.undo()
    file.chmod(0o440)
    monkeypatch.setattr(Path, "chmod", refuse)
    _protect(file)


def test_ui_refuses_the_option_no_token_with_a_token_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    command = [sys.executable, "-m", "cloaca", "ui", "-c", f"sqlite:///{tmp_path}/web.db"]
    command += ["--no-token", "--token-file", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "--no-token and --token-file exclude each other" in done.stderr


def test_show_web_links_to_the_page_of_an_execution(filled: Filled, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cloaca", "show", filled.failed, "--web", "--json"]
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path)}
    command += ["-c", filled.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        text = ""
        while not text.rstrip().endswith("}"):
            text += process.stdout.readline()
        shown = json.loads(text)
        assert shown["link"].startswith(f"{shown['url']}executions/{filled.failed}?token=")
        answer = call(shown["link"], headers={"Accept": "text/html"}, token=None)
        assert (answer.status, "set-cookie" in {name.lower() for name in answer.headers}) == (
            303,
            True,
        )
        process.terminate()


def test_ui_that_other_machines_can_reach_needs_a_token(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/web.db"
    cloaca.DefaultRunner(url).shutdown()
    command = [sys.executable, "-m", "cloaca", "ui", "-c", url, "--no-token", "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "other machines" in done.stderr


def test_import_of_the_package_loads_no_web_module() -> None:
    code = "import sys, cloaca; print([name for name in sys.modules if 'web' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_many_clients_at_once_are_answered(web: cloaca.web.Server) -> None:
    statuses: list[int] = []

    def ask() -> None:
        for _ in range(10):
            statuses.append(call(f"{web.url}api/v1/executions").status)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 80
