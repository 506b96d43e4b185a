"""Servers and requests for the tests of the HTTP API."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import cloaca

TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def call(
    url: str,
    method: str = "GET",
    body: object = None,
    headers: dict[str, str] | None = None,
    *,
    token: str | None = TOKEN,
) -> Answer:
    """Sends a request with every header that the API requires."""
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
    """Returns a redirect instead of following it."""

    def redirect_request(self, *_: object) -> None:
        """Follows no redirect."""


def define() -> None:
    """Defines the workflows of the tests of the HTTP API."""
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
    """uvicorn with an application, on a thread."""

    def __init__(self, app: Any) -> None:
        import uvicorn

        config = uvicorn.Config(app, port=0, log_level="warning", lifespan="auto", ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started:
            self.thread.join(0.02)  # uvicorn does not signal when it listens
            assert self.thread.is_alive()
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(10)


class WsgiServer:
    """The server of the standard library with an application, on a thread."""

    def __init__(self, app: Any) -> None:
        from wsgiref.simple_server import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log_message(self, *_: object) -> None:
                """Logs nothing."""

        self.server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)
