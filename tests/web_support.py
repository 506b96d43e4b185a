"""Servers and requests for the tests of the HTTP API."""

from __future__ import annotations

import io
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import cloaca
import cloaca.web

TOKEN = "0123456789abcdef0123456789abcdef"


ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = json.loads((ROOT / "crates" / "cloacina-web" / "openapi.json").read_text())
#: The method, the path and the OpenAPI object of each documented operation.
OPERATIONS = [
    (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]


@dataclass(frozen=True)
class Answer:
    """The response to a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Returns the body, decoded from JSON."""
        return json.loads(self.body)


def call(
    url: str,
    method: str = "GET",
    body: object = None,
    headers: dict[str, str] | None = None,
    *,
    token: str | None = TOKEN,
) -> Answer:
    """Sends a request with every header that the API requires, and returns the response.

    If `token` is `None`, the request has no credentials.
    """
    sent = {"Content-Type": "application/json", "X-Cloaca": "1"} if method != "GET" else {}
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    data = None if body is None and method == "GET" else json.dumps(body or {}).encode()
    request = urllib.request.Request(url, data, sent | (headers or {}), method=method)
    opener = urllib.request.build_opener(NoRedirect)
    try:
        with opener.open(request, timeout=30) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, dict(error.headers), error.read())


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes `call` return a redirect instead of following it."""

    def redirect_request(self, *_: object) -> None:
        """Follows no redirect."""


def define() -> None:
    """Defines the workflows that tests of the HTTP API use."""
    with cloaca.WorkflowBuilder("web_etl") as builder:
        builder.description("Load the daily file")

        @cloaca.task(id="extract")
        def extract(context):
            context["rows"] = [1, 2, 3]
            context["api_key"] = "sk-live-12345"

        @cloaca.task(id="load", dependencies=["extract"], retry_attempts=1)
        def load(context):
            if password := context.get("password"):
                raise ValueError(f"cannot log in with {password}")

    with cloaca.WorkflowBuilder("web_ask"):
        cloaca.approval("allow", title="Pay it?")


class Filled:
    """A database with a completed and a failed execution, a schedule, and a live runner."""

    def __init__(self, url: str) -> None:
        define()
        self.url = url
        self.runner = cloaca.DefaultRunner(url)
        self.completed = self.runner.execute("web_etl", {"day": "2026-01-01"}).execution_id
        self.failed = self.runner.execute("web_etl", {"password": "hunter2-long"}).execution_id
        self.schedule = self.runner.register_cron_workflow("web_etl", "30 2 * * *", "Europe/Berlin")

    def close(self) -> None:
        """Stops the runner."""
        self.runner.shutdown()


class AsgiServer:
    """Runs an ASGI application with uvicorn on a separate thread."""

    def __init__(self, app: Any) -> None:
        import uvicorn

        config = uvicorn.Config(app, port=0, log_level="warning", lifespan="auto", ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started:
            self.thread.join(0.02)  # Polls, because uvicorn does not signal that it listens.
            assert self.thread.is_alive()
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)


class WsgiServer:
    """Runs a WSGI application with the standard library's server, one thread per connection.

    A browser opens connections before it needs them. A server with one thread would wait for their
    requests, and answer no other connection.
    """

    def __init__(self, app: Any) -> None:
        from socketserver import ThreadingMixIn
        from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

        class Threads(ThreadingMixIn, WSGIServer):
            daemon_threads = True

        class Quiet(WSGIRequestHandler):
            def log_message(self, *_: object) -> None:
                """Logs nothing."""

        self.server = make_server("127.0.0.1", 0, app, Threads, Quiet)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


def path_of(path: str, filled: Filled) -> str:
    """Returns the path of a route, filled with an execution's or schedule's id, and with names.

    These objects exist, except version `0` and a runner with the execution's id.
    """
    schedule = path.startswith("/api/v1/schedules")
    path = path.replace("{id}", filled.schedule if schedule else filled.completed)
    path = path.replace("{task}", "extract").replace("{name}", "web_etl")
    return path.replace("{version}", "0").lstrip("/")


#: An id that no object has. A request with this id changes nothing even if it is permitted.
UNKNOWN = "01a227c8-1944-7622-85d9-28b15b89fe6a"


def paths(filled: Filled, *, exist: bool = True) -> list[tuple[str, str]]:
    """Returns the method and the path of every documented route, and of some pages.

    The paths contain the ids of existing executions and schedules if `exist`, otherwise `UNKNOWN`.
    """
    found = [(method, path) for method, path, _ in OPERATIONS]
    if not exist:
        found = [(method, path.replace("{id}", UNKNOWN)) for method, path in found]
    found = [(method, path_of(path, filled)) for method, path in found]
    return [*found, ("GET", ""), ("GET", "executions"), ("GET", "assets/app.js"), ("GET", "x/y")]


def state(web: cloaca.web.Server) -> list[bytes]:
    """Returns the data that any change would affect: the executions, schedules and waits."""
    lists = ("executions?limit=200", "schedules", "waits")
    return [call(f"{web.url}api/v1/{path}").body for path in lists]


def raw(web: cloaca.web.Server, target: str, *headers: str, method: str = "GET") -> Answer:
    """Sends a request without normalizing its target, and returns the response."""
    lines = [f"{method} {target} HTTP/1.1", *headers, "Connection: close", "", ""]
    if not any(header.lower().startswith("host:") for header in headers):
        lines.insert(1, f"Host: 127.0.0.1:{web.port}")
    with socket.create_connection(("127.0.0.1", web.port), timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode())
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    status, *pairs = head.decode("latin-1").split("\r\n")
    found = dict(pair.lower().split(": ", 1) for pair in pairs)
    return Answer(int(status.split(" ")[1]), found, body)


BEARER = f"Authorization: Bearer {TOKEN}"


def headers_of(answer: Answer) -> dict[str, str]:
    """Returns the headers of a response, by their names in lower case."""
    return {name.lower(): value for name, value in answer.headers.items()}


def ask_app(app: Any, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Sends a request to a WSGI application; returns the status and the body."""
    from wsgiref.util import setup_testing_defaults

    data = b"" if method == "GET" else json.dumps(body or {}).encode()
    path, _, query = path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(data)),
        "HTTP_X_CLOACA": "1",
        "wsgi.input": io.BytesIO(data),
    }
    setup_testing_defaults(environ)
    statuses: list[str] = []
    answer = b"".join(app(environ, lambda status, _: statuses.append(status)))
    return int(statuses[0].split(" ")[0]), answer


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """A database that the tests of a module share."""
    filled = Filled(f"sqlite:///{tmp_path_factory.mktemp('filled') / 'filled.db'}")
    yield filled
    filled.close()


@pytest.fixture(scope="module")
def web(filled: Filled) -> Iterator[cloaca.web.Server]:
    """A server of the web page, like the one that `cloaca ui` starts."""
    with cloaca.web.serve(filled.url, token=TOKEN) as server:
        yield server
