"""The HTTP API as an ASGI or WSGI application, also below a prefix in FastAPI, Django and Flask."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

import cloaca
import cloaca.web
from web_support import AsgiServer, Filled, WsgiServer, call

PREFIX = "/admin/cloaca"


def authorize(request: cloaca.web.Request) -> cloaca.web.Access | None:
    """Returns the access of the caller, who is identified by a header."""
    user = request.headers.get("x-user")
    if user == "viewer":
        return cloaca.web.Access(user, {"view"})
    return cloaca.web.Access(user) if user else None


@pytest.fixture
def filled(database: str) -> Iterator[Filled]:
    filled = Filled(database)
    yield filled
    filled.close()


def fastapi(filled: Filled) -> AsgiServer:
    framework = pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    app = framework.FastAPI()
    app.mount(PREFIX, cloaca.web.asgi(filled.url, authorize=authorize))
    return AsgiServer(app)


def django(filled: Filled) -> AsgiServer:
    framework = pytest.importorskip("django")
    pytest.importorskip("uvicorn")
    from django.conf import settings
    from django.core.asgi import get_asgi_application

    if not settings.configured:
        settings.configure(ROOT_URLCONF=(), ALLOWED_HOSTS=["*"], SECRET_KEY="x" * 50)
        framework.setup()
    pages = get_asgi_application()

    async def authorize_async(request: cloaca.web.Request) -> cloaca.web.Access | None:
        return authorize(request)

    api = cloaca.web.asgi(filled.url, authorize=authorize_async)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith(f"{PREFIX}/"):
            return await api({**scope, "root_path": PREFIX}, receive, send)
        return await pages(scope, receive, send)

    return AsgiServer(app)


def flask(filled: Filled) -> WsgiServer:
    framework = pytest.importorskip("flask")
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    app = framework.Flask("web")
    api = cloaca.web.wsgi(filled.url, authorize=authorize)
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {PREFIX: api})
    return WsgiServer(app)


FRAMEWORKS = [fastapi, django, flask]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_framework_serves_the_api_below_a_prefix(
    filled: Filled, framework: Callable[[Filled], Any]
) -> None:
    with framework(filled) as url:
        api = f"{url}{PREFIX}/api/v1"
        assert call(f"{api}/executions", token=None).status == 401
        ann = {"X-User": "ann"}
        found = call(f"{api}/executions?status=Failed", headers=ann, token=None).json()
        assert [item["id"] for item in found["items"]] == [filled.failed]
        viewer = {"X-User": "viewer"}
        body = {"workflow": "web_etl", "input": {"day": "2026-01-02"}, "key": "k/ä 1"}
        refused = call(f"{api}/executions", "POST", body, viewer, token=None)
        assert (refused.status, refused.json()["code"]) == (403, "forbidden")
        submitted = call(f"{api}/executions", "POST", body, ann, token=None)
        assert submitted.status == 201, submitted.body
        shown = call(f"{api}/executions?key=k/%C3%A4%201", headers=viewer, token=None).json()
        assert [item["id"] for item in shown["items"]] == [submitted.json()["id"]]
        cross = call(f"{api}/executions", "POST", body, ann | {"Origin": "http://evil.example"})
        assert (cross.status, cross.json()["code"]) == (403, "cross_site")
        page = call(f"{url}{PREFIX}/", headers=ann, token=None)
        assert b'<base href="./">' in page.body
        for path in ("/..%2f..", "//api/v1/meta", "/healthz/..%2fapi/v1/meta"):
            assert call(f"{url}{PREFIX}{path}", token=None).status in (401, 404), path
        assert call(f"{url}{PREFIX}/healthz", token=None).status == 200


@pytest.mark.parametrize("framework", [fastapi, flask])
def test_mount_path_without_a_trailing_slash_is_redirected(
    filled: Filled, framework: Callable[[Filled], Any]
) -> None:
    with framework(filled) as url:
        ann = {"X-User": "ann"}
        moved = call(f"{url}{PREFIX}?tenant=a%2Fb", headers=ann, token=None)
        assert moved.status in (307, 308)
        (location,) = (v for k, v in moved.headers.items() if k.lower() == "location")
        assert urljoin(f"{url}{PREFIX}", location) == f"{url}{PREFIX}/?tenant=a%2Fb"


def ask_wsgi(app: Any, **environ: str) -> tuple[str, dict[str, str]]:
    """Sends a request without a server, and returns the status and the headers of the response."""
    from wsgiref.util import setup_testing_defaults

    started: list[tuple[str, dict[str, str]]] = []
    environ = {"HTTP_HOST": "app.example", "SCRIPT_NAME": "", "PATH_INFO": "", **environ}
    setup_testing_defaults(environ)
    for _ in app(environ, lambda status, headers: started.append((status, dict(headers)))):
        pass
    return started[0]


@pytest.mark.parametrize(
    ("mount", "query", "location"),
    [
        ("/cloaca", "", "cloaca/"),
        ("/admin/cloaca", "tenant=a&x=%2F", "cloaca/?tenant=a&x=%2F"),
        ("/admin/a:b", "", "a%3Ab/"),
        ("/\u00c3\u00a4 1", "", "%C3%A4%201/"),
    ],
)
def test_wsgi_redirects_an_empty_path_below_a_mount(
    url: str, mount: str, query: str, location: str
) -> None:
    app = cloaca.web.wsgi(url, authorize=authorize)
    status, headers = ask_wsgi(app, SCRIPT_NAME=mount, QUERY_STRING=query)
    assert (status, headers["Location"]) == ("308 Permanent Redirect", location)


@pytest.mark.parametrize(
    ("root", "path", "location"),
    [
        ("/cloaca", "/cloaca", "cloaca/?tenant=a&x=%2F"),
        ("/admin/\u00e4 1", "", "%C3%A4%201/?tenant=a&x=%2F"),
        ("/cloaca", "/cloaca/", None),
        ("", "/", None),
    ],
)
def test_asgi_redirects_the_path_of_a_mount_without_a_slash(
    url: str, root: str, path: str, location: str | None
) -> None:
    app = cloaca.web.asgi(url, authorize=authorize)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0 if not sent else 60)  # a client that stays until it is cancelled
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "root_path": root, "path": path, "headers": []}
    asyncio.run(app({**scope, "query_string": b"tenant=a&x=%2F"}, receive, send))
    found = dict(sent[0]["headers"]).get(b"location")
    assert found == (location.encode() if location else None)
    assert (sent[0]["status"] == 308) == bool(location)


def test_wsgi_serves_an_empty_path_without_a_mount(url: str) -> None:
    app = cloaca.web.wsgi(url, authorize=lambda _: cloaca.web.Access("ann"))
    assert ask_wsgi(app)[0] == "200 OK"
    assert ask_wsgi(app, SCRIPT_NAME="/cloaca", PATH_INFO="/")[0] == "200 OK"


@pytest.mark.parametrize(("framework", "live"), [(fastapi, "stream"), (flask, "poll")])
def test_page_polls_for_changes_only_under_wsgi(
    filled: Filled, framework: Callable[[Filled], Any], live: str
) -> None:
    with framework(filled) as url:
        meta = call(f"{url}{PREFIX}/api/v1/meta", headers={"X-User": "ann"}, token=None)
        assert meta.json()["live"] == live


@pytest.mark.parametrize("framework", [fastapi, django])
def test_stream_passes_through_asgi(filled: Filled, framework: Callable[[Filled], Any]) -> None:
    with framework(filled) as url:
        request = urllib.request.Request(
            f"{url}{PREFIX}/api/v1/stream", headers={"X-User": "viewer"}
        )
        with urllib.request.urlopen(request, timeout=30) as stream:
            lines = iter(stream)
            assert next(lines) == b"retry: 2000\n"
            filled.runner.execute("web_etl", {})
            while next(lines) != b"event: changed\n":
                pass


def ask(app: Any, **scope: Any) -> list[dict[str, Any]]:
    """Sends a request without a server, and returns the events of the response."""
    sent: list[dict[str, Any]] = []
    requests: list[dict[str, Any]] = [{"type": "http.request", "body": b""}]

    async def receive() -> dict[str, Any]:
        if not requests:
            await asyncio.Event().wait()  # the client stays connected
        return requests.pop()

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    base = {"type": "http", "method": "GET", "path": "/healthz", "query_string": b""}
    headers = [(b"host", b"app.example")]
    asyncio.run(app({**base, "headers": headers, **scope}, receive, send))
    return sent


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/web.db"
    cloaca.DefaultRunner(url).shutdown()
    return url


def test_asgi_needs_no_lifespan_and_refuses_websockets(url: str) -> None:
    app = cloaca.web.asgi(url, authorize=authorize)
    start, *_ = ask(app)
    assert start["status"] == 200
    assert ask(app, type="websocket") == [{"type": "websocket.close", "code": 1008}]


def test_authorize_is_required_and_checked(url: str) -> None:
    with pytest.raises(TypeError):
        cloaca.web.asgi(url)  # type: ignore[call-arg]
    with pytest.raises(cloaca.ConfigurationError, match="authorize"):
        cloaca.web.wsgi(url, authorize=True)  # type: ignore[arg-type]
    app = cloaca.web.asgi(url, authorize=lambda _: True)  # type: ignore[arg-type,return-value]
    with pytest.raises(TypeError, match="Access"):
        ask(app, path="/api/v1/meta")
    with pytest.raises(cloaca.ConfigurationError, match="'admin' is not a permission"):
        cloaca.web.Access("ann", {"admin"})


def test_authorize_is_not_called_for_requests_that_the_gate_refuses(url: str) -> None:
    asked: list[str] = []

    def note(request: cloaca.web.Request) -> cloaca.web.Access:
        asked.append(request.path)
        return cloaca.web.Access("ann")

    app = cloaca.web.asgi(url, authorize=note, allowed_hosts=["app.example"])
    assert ask(app, path="/api/v1/meta", headers=[(b"host", b"evil.example")])[0]["status"] == 421
    foreign = [(b"host", b"app.example"), (b"origin", b"http://evil.example")]
    assert ask(app, path="/api/v1/meta", headers=foreign)[0]["status"] == 403
    assert asked == []
    assert ask(app, path="/api/v1/meta")[0]["status"] == 200
    assert asked == ["/api/v1/meta"]


def test_path_below_the_mount_is_found_with_and_without_raw_path(url: str) -> None:
    app = cloaca.web.asgi(url, authorize=lambda _: cloaca.web.Access("ann"))
    whole = "/cloaca/api/v1/workflows/a%2Fb"
    scope = {
        "root_path": "/cloaca",
        "raw_path": whole.encode(),
        "path": "/cloaca/api/v1/workflows/a/b",
    }
    _, body, *_ = ask(app, **scope)
    assert b"workflow 'a/b'" in body["body"]
    _, body, *_ = ask(app, root_path="/cloaca", path="/api/v1/workflows/a")
    assert b"workflow 'a'" in body["body"]


@pytest.mark.parametrize("path", ["/healthz", "/api/v1/meta"])
def test_asgi_answers_503_until_the_database_can_be_opened(
    tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/later.db"
    app = cloaca.web.asgi(url, authorize=lambda _: cloaca.web.Access("ann"))
    for _ in range(2):
        start, body = ask(app, path=path)
        headers = dict(start["headers"])
        assert (start["status"], headers[b"retry-after"]) == (503, b"2")
        assert headers[b"content-type"] == b"application/problem+json"
        problem = json.loads(body["body"])
        assert (problem["status"], problem["title"]) == (503, "Service Unavailable")
        assert problem["code"] == "database"
        assert "later.db" not in str(problem)
    (record,) = [found for found in caplog.records if "503" in found.message]
    assert problem["instance"] in record.message
    assert "later.db does not exist" in record.message
    start, body = ask(app, path=path, method="HEAD")
    assert (start["status"], body["body"]) == (503, b"")
    cloaca.DefaultRunner(url).shutdown()
    start, _, *_ = ask(app, path=path)
    assert start["status"] == 200
    # The answer without a service has all security headers of the service.
    secure = {
        (name, value)
        for name, value in start["headers"]
        if name not in (b"content-type", b"content-length", b"cache-control", b"etag")
    }
    assert (b"x-frame-options", b"DENY") in secure
    assert secure <= set(headers.items())


def test_wsgi_answers_503_until_the_database_can_be_opened(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"sqlite:///{tmp_path}/later.db"
    app = cloaca.web.wsgi(url, authorize=lambda _: cloaca.web.Access("ann"))
    for _ in range(2):
        status, headers = ask_wsgi(app, PATH_INFO="/healthz")
        assert (status, headers["retry-after"]) == ("503 Service Unavailable", "2")
        assert headers["content-type"] == "application/problem+json"
    assert len([found for found in caplog.records if "503" in found.message]) == 1
    cloaca.DefaultRunner(url).shutdown()
    assert ask_wsgi(app, PATH_INFO="/healthz")[0] == "200 OK"


def test_asgi_answers_503_if_the_database_server_is_unreachable() -> None:
    app = cloaca.web.asgi("postgresql://127.0.0.1:1/x", authorize=authorize)
    start, body = ask(app)
    assert (start["status"], json.loads(body["body"])["code"]) == (503, "connection")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_process_does_not_use_its_parents_service(url: str) -> None:
    app = cloaca.web.asgi(url, authorize=authorize)
    assert ask(app)[0]["status"] == 200
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = str(ask(app)[0]["status"])
        except BaseException as error:
            answer = repr(error)
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    answer = os.read(reader, 1000).decode()
    os.close(reader)
    # A forked child cannot use an SQLite file that its parent has open.
    assert answer == "200" if url.startswith("postgres") else "ForkedProcessError" in answer
