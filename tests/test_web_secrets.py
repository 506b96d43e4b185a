"""The real server shows no secret, runs no hostile text, and opens no file or URL for a caller.

`test_web_lessons.py` lists the security holes that other products had, with the tests in this file.
"""

from __future__ import annotations

import json
import logging
import re
import resource
import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import cloaca
import cloaca.web
from processes import until
from test_web import Ui
from web_support import (
    BEARER,
    DOCUMENT,
    OPERATIONS,
    TOKEN,
    Filled,
    ask_app,
    call,
    headers_of,
    paths,
    raw,
    state,
)


def test_airflow_3_0_3_no_route_shows_the_database_password(server, fresh_postgres):
    url = fresh_postgres()
    name = url.rpartition("/")[2]
    server.sql(f"CREATE ROLE shown_{name} LOGIN SUPERUSER PASSWORD 'pw-of-the-database'")
    address = url.partition("@")[2]
    secret = f"postgresql://shown_{name}:pw-of-the-database@{address}"
    filled = Filled(secret)
    try:
        with cloaca.web.serve(secret, token=TOKEN) as web:
            for method, path in paths(filled):
                if method == "GET" and not path.endswith("/stream"):
                    body = call(f"{web.url}{path}").body
                    assert b"pw-of-the-database" not in body, path
            assert call(f"{web.url}api/v1/meta").json()["location"].endswith(name)
    finally:
        filled.close()


def test_airflow_2024_45784_log_lines_mask_secrets(database):
    with cloaca.WorkflowBuilder("web_printed"):

        @cloaca.task(retry_attempts=0)
        def connect(context):
            print(f"dsn postgresql://me:{context['db_password']}@host/db")
            logging.getLogger("app").warning("logged in with %s", context["db_password"])
            print("Authorization: Bearer abcdef0123456789abcdef")
            raise RuntimeError(f"refused: {context['db_password']}")

    config = cloaca.DefaultRunnerConfig(capture_logs=True)
    with (
        cloaca.DefaultRunner.with_config(database, config) as runner,
        cloaca.web.serve(database, token=TOKEN) as web,
    ):
        failed = runner.execute("web_printed", {"db_password": "s3cret-value"}).execution_id
        api = f"{web.url}api/v1"
        whole = [f"{api}/executions/{failed}/{what}" for what in ("logs", "events", "export")]
        for url in [*whole, f"{api}/executions/{failed}", f"{whole[2]}?format=html"]:
            answer = call(url)
            assert answer.status == 200
            assert b"s3cret-value" not in answer.body, url
        lines = [line["message"] for line in call(whole[0]).json()["items"]]
        assert any("logged in with" in line for line in lines), lines


def test_airflow_2024_27906_viewer_sees_no_payload(filled):
    app = cloaca.web.wsgi(filled.url, authorize=lambda _: cloaca.web.Access("eve", {"view"}))
    execution = f"/api/v1/executions/{filled.completed}"
    for what in ("input", "output", "tasks/extract/output", "tasks/extract/view"):
        assert ask_app(app, "GET", f"{execution}/{what}")[0] == 403, what
    for method, path in paths(filled):
        if method == "GET" and path.startswith("api/") and not path.endswith("/stream"):
            _, body = ask_app(app, "GET", f"/{path}")
            assert b"2026-01-01" not in body.replace(b"2026-01-01T", b""), path


def test_airflow_2024_27906_tenants_are_separated(fresh_postgres):
    url = fresh_postgres()
    admin = cloaca.DatabaseAdmin(url)
    for name in ("web_red", "web_blue"):
        admin.create_tenant(cloaca.TenantConfig(name, f"{name}_{url.rpartition('/')[2][:20]}"))
    filled = Filled(url)
    try:
        red = cloaca.web.Access("eve", tenants={"web_red"})
        app = cloaca.web.wsgi(url, authorize=lambda _: red)
        for method, path in paths(filled):
            if not path.startswith("api/") or path.endswith("/stream"):
                continue
            for tenant in ("", "?tenant=web_blue", "?tenant=public"):
                if (path, tenant) == ("api/v1/tenants", ""):
                    continue  # lists the caller's own tenants
                status, body = ask_app(app, method, f"/{path}{tenant}", {"unknown": 1})
                assert status == 403, (method, path, tenant, body)
        assert ask_app(app, "GET", "/api/v1/executions?tenant=web_red")[0] == 200
        for tenant in ("", "?tenant=web_red"):
            status, body = ask_app(app, "GET", f"/api/v1/tenants{tenant}")
            assert status == 200
            assert [item["schema"] for item in json.loads(body)["items"]] == ["web_red"]
    finally:
        filled.close()


def test_airflow_2020_17511_log_of_the_server_has_no_token(filled, tmp_path):
    ui = Ui(filled.url, "--port", "0", CLOACA_UI_TOKEN=TOKEN, RUST_LOG="trace")
    url = ui.link.partition("?")[0]
    for target in (f"?token={TOKEN}", f"api/v1/meta?token={TOKEN}", "api/v1/meta"):
        call(f"{url}{target}")
    body = {"workflow": "web_etl", "input": {"password": "in-the-body-1234"}, "delay": 3600}
    id = call(f"{url}api/v1/executions", "POST", body).json()["id"]
    call(f"{url}api/v1/executions/{id}/cancel", "POST")
    ui.process.terminate()
    _, written = ui.process.communicate(timeout=30)
    assert TOKEN not in written
    assert "in-the-body" not in written


#: Names that stand for settings of a process. No route, parameter or member has such a name.
SETTINGS = re.compile(r"env(iron)?|config(uration)?s?|settings?|dsn|connection_string", re.I)


def names_of(schema: Any, found: set[str]) -> set[str]:
    """Adds the names of all members of a schema, at any depth, to `found`, and returns `found`."""
    if isinstance(schema, dict):
        found.update(schema.get("properties", {}))
        for part in schema.values():
            names_of(part, found)
    elif isinstance(schema, list):
        for part in schema:
            names_of(part, found)
    return found


def test_airflow_cfg_no_route_reads_files_or_settings():
    words = {word for _, path, _ in OPERATIONS for word in path.split("/")}
    words |= {p["name"] for _, _, operation in OPERATIONS for p in operation.get("parameters", ())}
    words |= names_of(DOCUMENT["components"]["schemas"], set())
    assert not [word for word in words if SETTINGS.fullmatch(word)]
    assert not [word for word in words if re.search(r"file|folder|directory", word)]


def test_airflow_cfg_traversal_leads_to_no_file(web):
    up = ("..", "%2e%2e", "..%2f..", "%2e%2e%2f%2e%2e", "..%5c..", "....//..", "%252e%252e")
    for step in up:
        for target in (
            f"/assets/{step}/{step}/etc/passwd",
            f"/{step}/etc/passwd",
            f"/assets/{step}",
        ):
            answer = raw(web, target, BEARER)
            assert answer.status in (400, 404), target
            assert b"root:" not in answer.body
    for name in ("app.js%00.css", "/etc/passwd", "%2fetc%2fpasswd", "MANIFEST", "app.js.etag"):
        assert raw(web, f"/assets/{name}", BEARER).status in (400, 404), name


def test_oban_web_2_12_5_cron_expressions_take_little_memory(web):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for expression in (
        "0-999999999 * * * *",
        "*/1," * 1_500,
        "1-" * 2_000,
        "0 0 31 2 *",
        "(" * 3_000,
    ):
        answer = call(f"{web.url}api/v1/schedules/preview?expression={quote(expression)}")
        assert answer.status == 200 or 400 <= answer.status < 500
        assert len(answer.body) < 20_000
    far = f"{web.url}api/v1/schedules/preview?expression=0%200%2029%202%20*&count=10000000000"
    assert call(far).status == 422
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_tensorboard_2387_default_address_is_loopback(web):
    own = {address[4][0] for address in socket.getaddrinfo(socket.gethostname(), None)}
    for address in own:
        if not address.startswith("127.") and address != "::1":
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((address, web.port), timeout=5)
    listening = Path("/proc/net/tcp").read_text()
    found = [line.split()[1] for line in listening.splitlines() if f":{web.port:04X} " in line]
    assert f"0100007F:{web.port:04X}" in found
    assert f"00000000:{web.port:04X}" not in found


def test_jupyter_2254_token_is_removed_from_the_url(web):
    answer = call(web.link, token=None)
    found = headers_of(answer)
    assert (answer.status, found["location"]) == (303, "?")
    assert found["referrer-policy"] == "no-referrer"
    assert TOKEN.encode() not in answer.body
    pair = found["set-cookie"].split(";")[0]
    page = call(web.url, headers={"Cookie": pair, "Accept": "text/html"}, token=None)
    assert (page.status, TOKEN.encode() in page.body) == (200, False)


def test_jupyter_2254_token_in_the_url_of_a_route_is_refused(web, filled):
    for method, path in paths(filled):
        if path.startswith("api/"):
            assert call(f"{web.url}{path}?token={TOKEN}", method, token=None).status == 401, path


#: The whole content security policy. It has no exceptions.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)


def test_sidekiq_every_answer_has_the_strict_policy(web, filled):
    wrong = [("POST", "executions"), ("GET", "api/v1/nothing"), ("GET", "healthz")]
    for method, path in paths(filled, exist=False) + wrong:
        for token in (TOKEN, None):
            if token and path.endswith("/stream"):
                continue
            found = headers_of(call(f"{web.url}{path}", method, token=token))
            assert found["content-security-policy"] == POLICY, path
            assert found["x-content-type-options"] == "nosniff"
            assert found["x-frame-options"] == "DENY"


def test_sidekiq_page_loads_only_its_own_scripts(web):
    for path in ("", "executions", "workflows/web_etl", "schedules"):
        text = call(f"{web.url}{path}", headers={"Accept": "text/html"}).body.decode()
        sources = re.findall(r"""(?:src|href)=["']([^"']+)""", text)
        assert sources
        assert not [source for source in sources if re.match(r"\w+:|//", source)], sources
        assert not re.search(r"<script(?![^>]* src=)|<style| on\w+=| style=", text)


def test_ssrf_no_route_takes_a_url():
    named = re.compile(
        r"ur[il]s?|hosts?|callback|webhook|endpoint|address|proxy|redirect|next_?url"
    )
    for method, path, operation in OPERATIONS:
        names = {parameter["name"] for parameter in operation.get("parameters", ())}
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        text = json.dumps(body)
        for reference in re.findall(r"#/components/schemas/(\w+)", text):
            names_of(DOCUMENT["components"]["schemas"][reference], names)
        names_of(body, names)
        assert not [name for name in names if named.fullmatch(name.lower())], (method, path)
        assert '"format": "uri' not in text


#: Values that template engines, formatters and shells would evaluate.
TEMPLATES = ("{{7*7}}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "{0}{trace_id}", "$(id)", "%(name)s%n")


def test_template_syntax_in_values_is_not_evaluated(filled):
    trace = "https://traces.example/{trace_id}"
    with cloaca.web.serve(filled.url, token=TOKEN, trace_url=trace) as web:
        for text in TEMPLATES:
            body = {"workflow": "web_etl", "input": {"text": text}, "labels": {"t": text}}
            submitted = call(f"{web.url}api/v1/executions", "POST", {**body, "delay": 3600}).json()
            path = f"{web.url}api/v1/executions/{submitted['id']}"
            assert call(f"{path}/input").json()["value"]["text"] == text
            assert call(path).json()["labels"] == {"t": text}
            unknown = call(f"{web.url}api/v1/workflows/{quote(text, safe='')}")
            assert (unknown.status, f"'{text}'" in unknown.json()["detail"]) == (404, True)
            shown = call(f"{path}/export?format=html").body.decode()
            assert "49" not in re.sub(r"[0-9a-f-]{36}|\d{4}-\d\d-\d\dT[\d:.]+", "", shown)
            assert call(f"{path}/cancel", "POST").status == 200


def test_log_injection_names_stay_on_one_line(filled, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    forged = "paid\n2026-01-01 ERROR forged\r\x1b[31mred\u2028line"
    user = cloaca.web.Access(f"eve {forged}")
    app = cloaca.web.wsgi(filled.url, authorize=lambda _: user)
    signal = {"name": forged, "data": {}, "key": "4711"}
    assert ask_app(app, "POST", "/api/v1/signals", signal)[0] == 422
    assert ask_app(app, "GET", f"/api/v1/workflows/{quote(forged, safe='')}")[0] == 404
    body = {"workflow": "web_etl", "key": forged, "labels": {"wave": forged}, "delay": 3600}
    status, submitted = ask_app(app, "POST", "/api/v1/executions", body)
    assert status == 201, submitted
    path = f"/api/v1/executions/{json.loads(submitted)['id']}"
    assert ask_app(app, "POST", f"{path}/cancel", {"note": forged})[0] == 200
    events = json.loads(ask_app(app, "GET", f"{path}/events")[1])["items"]
    assert [event["data"]["note"] for event in events if event["type"] == "cancelled"] == [forged]
    changes = lambda: [r for r in caplog.records if getattr(r, "target", "").endswith("::changes")]  # noqa: E731
    until("the cancellation is logged", lambda: len(changes()) == 2)
    assert [record.getMessage().split()[0] for record in changes()] == ["submit", "cancel"]
    logged = [record.getMessage() for record in caplog.records]
    logged += [*capfd.readouterr()]
    for text in logged:
        assert "\x1b" not in text
        assert not re.search(r"(^|[\r\n\u2028])(2026-01-01 ERROR|line)", text), text


def test_xss_api_answers_are_never_html(web, filled):
    markup = quote("<img src=x onerror=alert(1)>", safe="")
    for path in (f"workflows/{markup}", f"executions/{markup}", f"{markup}", f"runners/{markup}"):
        for accept in ("text/html", "*/*"):
            answer = call(f"{web.url}api/v1/{path}", headers={"Accept": accept})
            assert headers_of(answer)["content-type"] == "application/problem+json", path
            assert answer.status >= 400
    page = call(f"{web.url}{markup}", headers={"Accept": "text/html"})
    assert (page.status, b"<img" in page.body) == (404, False)
    export = call(f"{web.url}api/v1/executions/{filled.completed}/export?format=html")
    assert headers_of(export)["content-disposition"].startswith("attachment")


def test_cache_no_shared_cache_may_store_an_answer(web, filled):
    for method, path in [*paths(filled, exist=False), ("GET", "api/v1/nothing")]:
        for token in (TOKEN, None):
            if token and path.endswith("/stream"):
                continue
            found = headers_of(call(f"{web.url}{path}", method, token=token))
            wanted = {"private, no-cache"} if "etag" in found else {"no-store", "no-cache"}
            assert found["cache-control"] in wanted, (method, path, found)


def test_read_only_server_cannot_write_to_its_database(server, fresh_postgres):
    url = fresh_postgres()
    filled = Filled(url)
    name = url.rpartition("/")[2]
    role = f"reader_{name}"
    server.sql(f"CREATE ROLE {role} LOGIN", name)
    server.sql(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", name)
    reader = url.replace("postgres@", f"{role}@")
    try:
        # The role can only read, so a route that tried to write would fail with another status.
        with cloaca.web.serve(reader, token=TOKEN, read_only=True) as web:
            before = state(web)
            for method, path in paths(filled):
                if path.endswith("/stream"):
                    continue
                answer = call(f"{web.url}{path}", method)
                if method == "GET":
                    assert answer.status in (200, 404, 422), (path, answer.body)
                else:
                    assert (answer.status, answer.json()["code"]) == (403, "read_only")
            assert state(web) == before
    finally:
        filled.close()


def test_secret_in_a_url_is_not_repeated(web, filled):
    wrong = "wrong-token-in-the-link"
    for path in ("", "executions", "api/v1/meta", "assets/app.js", "nothing"):
        answer = call(f"{web.url}{path}?token={wrong}", headers={"Accept": "text/html"}, token=None)
        assert answer.status in (401, 429)
        assert wrong.encode() not in answer.body + str(answer.headers).encode()
    for method, path in paths(filled):
        if method == "GET" and not path.endswith("/stream"):
            answer = call(f"{web.url}{path}")
            assert TOKEN.encode() not in answer.body + str(answer.headers).encode(), path
