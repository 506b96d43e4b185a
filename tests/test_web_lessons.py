"""The real server does not have the security holes that the dashboards of other products had.

`LESSONS` lists the holes, and the tests that check that cloaca does not have them. One test checks
that every hole in the table has a test. `crates/cloacina-web/tests/http/lessons.rs` makes similar
checks on the router.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import cloaca
import cloaca.web
from web_support import (
    BEARER,
    DOCUMENT,
    OPERATIONS,
    TOKEN,
    UNKNOWN,
    ask_app,
    call,
    headers_of,
    path_of,
    paths,
    raw,
    state,
)

#: The holes of other products, each with the names of the tests that check cloaca for it. The
#: tests of the page in Chromium are in `tests/web/test_hostile.py`.
LESSONS = {
    "Ray CVE-2023-48022: no authentication by design": [
        "test_ray_2023_48022_every_route_needs_credentials",
        "test_ray_2023_48022_wider_bind_without_a_token_is_refused",
    ],
    "Ray CVE-2026-27482: DELETE was not guarded, browsers were detected by User-Agent": [
        "test_ray_2026_27482_no_method_escapes_the_cross_site_check",
        "test_ray_2026_27482_foreign_page_changes_nothing",
    ],
    "Ray CVE-2025-62593: DNS rebinding": ["test_ray_2025_62593_foreign_host_gets_no_data"],
    "MLflow CVE-2025-14279: no check of the Host": [
        "test_mlflow_2025_14279_every_route_checks_the_host",
    ],
    "MLflow CVE-2026-2611: a path prefix escaped the CORS guard": [
        "test_mlflow_2026_2611_no_answer_has_a_cors_header",
    ],
    "Kestra CVE-2026-53576: paths were public because of their ending": [
        "test_kestra_2026_53576_public_endings_open_no_route",
    ],
    "Prefect CVE-2026-3514: paths that end in health or ready were public": [
        "test_prefect_2026_3514_health_endings_open_no_route",
    ],
    "Prefect CVE-2026-7723: a WebSocket without authentication": [
        "test_prefect_2026_7723_no_route_becomes_a_websocket",
    ],
    "Prefect CVE-2024-8183: CORS for every origin": [
        "test_prefect_2024_8183_no_origin_is_reflected",
    ],
    "marimo CVE-2026-39987: one handler did not check the login": [
        "test_marimo_2026_39987_stream_passes_the_same_gate",
    ],
    "Starlette CVE-2026-48710: the Host header changed the path": [
        "test_starlette_2026_48710_forged_host_changes_no_route",
    ],
    "Flower CVE-2022-30034: an unanchored pattern admitted other users": [
        "test_flower_2022_30034_allowed_hosts_match_as_a_whole",
        "test_flower_2022_30034_caller_without_access_is_refused",
    ],
    "Windmill CVE-2026-22683: a role that only the page enforced": [
        "test_windmill_2026_22683_viewer_changes_nothing_by_request",
    ],
    "Oban Web 2.12.5: readers could edit a job": [
        "test_oban_web_2_12_5_database_itself_refuses_a_reader",
    ],
    "open-webui CVE-2026-45316: permissions were not checked at the write": [
        "test_open_webui_2026_45316_each_permission_allows_only_its_routes",
    ],
    "Airflow 3.0.3: connections were shown to readers": [
        "test_airflow_3_0_3_no_route_shows_the_database_password",
    ],
    "Airflow CVE-2024-45784: secrets in the logs of tasks": [
        "test_airflow_2024_45784_log_lines_mask_secrets",
    ],
    "Airflow CVE-2024-27906: readers saw code and errors of others": [
        "test_airflow_2024_27906_viewer_sees_no_payload",
        "test_airflow_2024_27906_tenants_are_separated",
    ],
    "Airflow CVE-2020-17511: a password in the server's log": [
        "test_airflow_2020_17511_log_of_the_server_has_no_token",
    ],
    "Airflow: the configuration file was exposed": [
        "test_airflow_cfg_no_route_reads_files_or_settings",
        "test_airflow_cfg_traversal_leads_to_no_file",
    ],
    "Oban Web 2.12.5: a cron expression that took gigabytes": [
        "test_oban_web_2_12_5_cron_expressions_take_little_memory",
    ],
    "TensorBoard #2387: bound to all interfaces": [
        "test_tensorboard_2387_default_address_is_loopback",
    ],
    "Jupyter notebook#2254: a token in URLs": [
        "test_jupyter_2254_token_is_removed_from_the_url",
        "test_jupyter_2254_token_in_the_url_of_a_route_is_refused",
    ],
    "Sidekiq: a loose CSP for scripts of extensions": [
        "test_csp_is_enforced_without_exceptions",
        "test_csp_forbids_inline_scripts_in_the_markup_of_the_page",
        "test_sidekiq_every_answer_has_the_strict_policy",
        "test_sidekiq_page_loads_only_its_own_scripts",
    ],
    "requests to other servers (SSRF)": ["test_ssrf_no_route_takes_a_url"],
    "templates in values": ["test_template_syntax_in_values_is_not_evaluated"],
    "forged lines in the log": ["test_log_injection_names_stay_on_one_line"],
    "cross-site scripting": [
        "test_xss_api_answers_are_never_html",
        "test_xss_hostile_values_run_no_script_on_any_page",
        "test_xss_exported_file_runs_no_script",
    ],
    "cross-site request forgery": ["test_csrf_page_on_another_port_changes_nothing"],
    "shared caches that store answers": ["test_cache_no_shared_cache_may_store_an_answer"],
    "writes in read-only mode": ["test_read_only_server_cannot_write_to_its_database"],
    "secrets in URLs": ["test_secret_in_a_url_is_not_repeated"],
}


def test_every_lesson_has_its_tests() -> None:
    names = ("test_web_lessons.py", "test_web_secrets.py", "web/test_hostile.py")
    files = [Path(__file__).parent / name for name in names]
    defined = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text())}
    named = {name for names in LESSONS.values() for name in names}
    assert all(LESSONS.values())
    assert named - defined == set()
    assert defined - named == {"test_every_lesson_has_its_tests"}


FOREIGN = {"Origin": "http://evil.example", "User-Agent": "curl/8"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE", "LOCK")


def test_ray_2023_48022_every_route_needs_credentials(web, filled):
    before = state(web)
    for method, path in paths(filled):
        answer = call(f"{web.url}{path}", method, token=None)
        assert answer.status == (200 if path == "healthz" else 401), (method, path)
    assert state(web) == before


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_ray_2023_48022_wider_bind_without_a_token_is_refused(filled, host):
    with pytest.raises(cloaca.ConfigurationError, match="other machines"):
        cloaca.web.serve(filled.url, host=host, no_token=True)


def test_ray_2026_27482_no_method_escapes_the_cross_site_check(web, filled):
    before = state(web)
    for _, path in paths(filled):
        for method in METHODS:
            for foreign in (FOREIGN, {"Sec-Fetch-Site": "cross-site"}):
                lines = [f"{name}: {value}" for name, value in foreign.items()]
                lines += [BEARER, "Content-Type: application/json", "X-Cloaca: 1"]
                answer = raw(web, f"/{path}", *lines, "Content-Length: 0", method=method)
                assert answer.status == 403, (method, path, answer.body)
    assert state(web) == before


def test_ray_2025_62593_foreign_host_gets_no_data(web):
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8265"):
        answer = raw(web, "/api/v1/executions", BEARER, f"Host: {host}")
        assert answer.status == 421, host
        assert json.loads(answer.body)["code"] == "host_not_allowed"
        # After DNS rebinding, a foreign page reaches this server under the foreign host name. The
        # cookie must not give access under such a name.
        page = raw(web, "/", f"Cookie: cloaca-{web.port}={TOKEN}", f"Host: {host}")
        assert (page.status, b"<base" in page.body) == (421, False)


def test_mlflow_2025_14279_every_route_checks_the_host(web, filled):
    for method, path in paths(filled):
        answer = call(f"{web.url}{path}", method, headers={"Host": "evil.example"})
        assert answer.status == 421, (method, path)


def test_mlflow_2026_2611_no_answer_has_a_cors_header(web, filled):
    found = [*paths(filled), ("GET", "ajax-api/2.0/x"), ("POST", "nothing")]
    for method, path in found:
        if path.endswith("/stream"):
            continue
        for origin in (f"http://127.0.0.1:{web.port}", "http://evil.example", "null"):
            for asked in ("OPTIONS", "GET" if method == "GET" else "HEAD"):
                preflight = {"Origin": origin, "Access-Control-Request-Method": method}
                answer = call(f"{web.url}{path}", asked, headers=preflight)
                assert not [name for name in headers_of(answer) if name.startswith("access-")]


#: Endings and prefixes of paths that were public in other products.
ENDINGS = ("healthz", "health", "ready", "live", "configs", "status", "login", "openapi.json")


def check_private(web: cloaca.web.Server, endings: tuple[str, ...]) -> None:
    """Asserts that no path is public because of its ending or its prefix."""
    for ending in endings:
        for target in (
            f"/api/v1/executions/{ending}",
            f"/api/v1/workflows/{ending}",
            f"/api/v1/meta?x=/{ending}",
            f"/api/v1/meta/{ending}",
            f"/api/v1/meta;{ending}",
            f"/{ending}/../api/v1/meta",
            f"/{ending}/..%2fapi/v1/meta",
            f"/{ending}%2f..%2fapi%2fv1%2fmeta",
            f"//{ending}/api/v1/meta",
            f"/api/v1/{ending}",
        ):
            answer = raw(web, target)
            assert answer.status == 401, target
            assert b"version" not in answer.body


def test_kestra_2026_53576_public_endings_open_no_route(web):
    check_private(web, ENDINGS)
    public = [path for _, path, operation in OPERATIONS if operation.get("security") == []]
    assert public == ["/healthz"]


def test_prefect_2026_3514_health_endings_open_no_route(web):
    check_private(web, ("health", "ready"))
    assert raw(web, "/healthz").body == b'{"status":"ok"}'
    for target in ("/healthz/", "/healthz/x", "/HEALTHZ", "/health", "/ready", "/api/v1/healthz"):
        assert raw(web, target).status == 401, target


UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")


def test_prefect_2026_7723_no_route_becomes_a_websocket(web, filled):
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    for _, path in [*paths(filled), ("GET", "ws"), ("GET", "api/v1/ws")]:
        assert raw(web, f"/{path}", *UPGRADE, key).status != 101
        if not path.endswith("/stream"):
            assert raw(web, f"/{path}", *UPGRADE, key, BEARER).status != 101
    for path in DOCUMENT["paths"]:
        assert "101" not in DOCUMENT["paths"][path].get("get", {}).get("responses", {})


def test_prefect_2024_8183_no_origin_is_reflected(web):
    for origin in ("http://evil.example", "null", "https://evil.example:8443"):
        answer = call(f"{web.url}api/v1/meta", headers={"Origin": origin})
        assert answer.status == 403
        assert origin not in str(answer.headers)
        assert origin.encode() not in answer.body
        assert "vary" not in headers_of(answer)


def test_marimo_2026_39987_stream_passes_the_same_gate(web, filled):
    url = f"{web.url}api/v1/stream"
    assert call(url, token=None).status == 401
    assert call(url, headers={"Host": "evil.example"}).status == 421
    assert call(url, headers=FOREIGN).status == 403
    app = cloaca.web.wsgi(filled.url, authorize=lambda _: cloaca.web.Access("ann", ()))
    assert ask_app(app, "GET", "/api/v1/stream")[0] == 403


def test_starlette_2026_48710_forged_host_changes_no_route(web):
    for host in ("127.0.0.1/healthz", "localhost/healthz?", "127.0.0.1:80/healthz#", "a b"):
        answer = raw(web, "/api/v1/meta", f"Host: {host}")
        assert answer.status in (400, 401, 421), host
    two = raw(web, "/api/v1/meta", BEARER, "Host: 127.0.0.1", "Host: evil.example")
    assert two.status == 400
    # An absolute URL in the request line determines the route, and passes the same gate.
    assert raw(web, "http://127.0.0.1/api/v1/meta").status == 401
    assert raw(web, "http://evil.example/api/v1/meta", BEARER, "Host: evil.example").status == 421
    for name in ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "X-Forwarded-Host"):
        assert raw(web, "/api/v1/meta", f"{name}: /healthz").status == 401, name


def test_flower_2022_30034_allowed_hosts_match_as_a_whole(filled):
    hosts = ["flows.example"]
    with cloaca.web.serve(filled.url, token=TOKEN, allowed_hosts=hosts) as server:
        for host in ("flows.example", "FLOWS.example:8443"):
            assert raw(server, "/api/v1/meta", BEARER, f"Host: {host}").status == 200, host
        for host in (
            "flowsXexample",
            "flows.example.evil",
            "evil-flows.example",
            "x.flows.example",
        ):
            assert raw(server, "/api/v1/meta", BEARER, f"Host: {host}").status == 421, host


def test_flower_2022_30034_caller_without_access_is_refused(web, filled):
    for value in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer .*", TOKEN, "Basic Og=="):
        assert raw(web, "/api/v1/meta", f"Authorization: {value}").status in (401, 429), value
    app = cloaca.web.wsgi(filled.url, authorize=lambda _: None)
    for method, path in paths(filled):
        if path != "healthz":
            assert ask_app(app, method, f"/{path}")[0] == 401, (method, path)


#: The routes that can change something: all routes whose method is not GET.
WRITES = [(method, path) for method, path, _ in OPERATIONS if method != "GET"]


def test_windmill_2026_22683_viewer_changes_nothing_by_request(web, filled):
    before = state(web)
    viewer = cloaca.web.Access("eve", {"view", "view_payloads"})
    app = cloaca.web.wsgi(filled.url, authorize=lambda _: viewer)
    for method, path in WRITES:
        status, body = ask_app(app, method, f"/{path_of(path, filled)}", {"workflow": "web_etl"})
        assert (status, json.loads(body)["code"]) == (403, "forbidden"), (method, path)
    assert state(web) == before


def test_oban_web_2_12_5_database_itself_refuses_a_reader(filled):
    reader = cloaca._core.Inspector(filled.url, None, False, True)
    for change in (
        lambda: reader.submit(cloaca._core.SubmitRequest("web_etl")),
        lambda: reader.control(filled.failed, "retry"),
        lambda: reader.rerun(filled.failed),
    ):
        with pytest.raises(Exception, match="read-only"):
            change()


#: The operations that need a permission other than `view`, grouped by their permission.
NEEDED = {
    "view_payloads": {"getInput", "getOutput", "getTaskOutput", "getTaskView"},
    "control": {
        *("cancelExecution", "pauseExecution", "resumeExecution", "retryExecution", "sendSignal"),
        *("controlExecutions", "approveTask", "rejectTask", "changeMap"),
    },
    "start": {"submit", "rerunExecution", "runScheduleNow", "backfillSchedule"},
    "schedule": {
        *("createSchedule", "changeSchedule", "deleteSchedule"),
        *("enableSchedule", "disableSchedule"),
    },
    "delete": {"deleteExecution", "pruneDatabase"},
}


def test_open_webui_2026_45316_each_permission_allows_only_its_routes(web, filled):
    before = state(web)
    asked = [(method, path, o["operationId"]) for method, path, o in OPERATIONS]
    asked = [each for each in asked if each[2] not in ("getHealth", "streamChanges")]
    for permission in cloaca.web.PERMISSIONS:
        rest = cloaca.web.Access("eve", set(cloaca.web.PERMISSIONS) - {permission})
        app = cloaca.web.wsgi(filled.url, authorize=lambda _, rest=rest: rest)
        refused = set()
        for method, path, name in asked:
            # The permission is checked first. A request that passes this check can fail later, but
            # not with 403: its body is invalid, or the object does not exist.
            target = f"/{path_of(path.replace('{id}', UNKNOWN), filled)}"
            if ask_app(app, method, target, {"unknown": 1})[0] == 403:
                refused.add(name)
        others = set().union(*NEEDED.values())
        expected = NEEDED.get(permission, {name for _, _, name in asked} - others)
        assert refused == expected, permission
    assert state(web) == before
