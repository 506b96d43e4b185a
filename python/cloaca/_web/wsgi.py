"""The adapter for WSGI: Flask, Django, and others."""

from __future__ import annotations

from urllib.parse import quote

from cloaca._core import WebService
from cloaca._web.access import Access, Request, core_of
from cloaca._web.mount import with_slash
from cloaca._web.service import MAX_BODY, Service
from cloaca._web.unavailable import STATUS, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from cloaca._core import WebExchange
    from cloaca._runner.runner import DefaultRunner

    StartResponse = Callable[..., Any]

_PATH = "/-._~!$&'()*+,;=:@"
# The headers that WSGI servers send themselves.
_HOP_BY_HOP = {b"connection", b"transfer-encoding"}


def wsgi(
    database: str | DefaultRunner,
    *,
    authorize: Callable[[Request], Access | None],
    schema: str | None = None,
    read_only: bool = False,
    hide_payloads: bool = False,
    redact: Iterable[str] = (),
    allowed_hosts: Iterable[str] | None = None,
    trust_proxy: bool = False,
    trace_url: str | None = None,
) -> WsgiApp:
    """Return the HTTP API of a database as a WSGI application, to mount below any path.

    A stream of changes would occupy a thread of the WSGI server for as long as the page is open. So
    the page polls `GET changes?after=` every three seconds instead. Other clients should do the
    same.

    Args:
        database: The URL of the database, or a runner whose database to serve.
        authorize: A function that receives each request that passes the checks of its size, host
            and origin. It returns the caller's access, or `None` to refuse the request with status
            401.
        schema: The PostgreSQL schema to serve. If omitted, the default schema and the schemas of
            all tenants are served.
        read_only: Whether to refuse every change.
        hide_payloads: Whether to hide inputs, results and contexts from everybody.
        redact: Strings, in addition to the built-in ones. If a key contains one of them, the key's
            value is hidden.
        allowed_hosts: The host names to answer for, besides IP addresses and `localhost`. If
            omitted, only the framework's check applies.
        trust_proxy: Whether to trust the headers X-Forwarded-Host and X-Forwarded-Proto.
        trace_url: The URL of a trace's page. `{trace_id}` and `{execution_id}` in the URL are
            replaced. Executions that were submitted in a trace have a link to the page.

    Returns:
        The application.

    Raises:
        ConfigurationError: An argument is not valid. The error is a `ValueError`.

    Example:
        >>> api = cloaca.web.wsgi("sqlite:///etl.db", authorize=authorize)
        >>> app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/cloaca": api})

    Since 1.0.
    """
    return WsgiApp(
        Service(
            database,
            authorize,
            schema=schema,
            read_only=read_only,
            hide_payloads=hide_payloads,
            redact=redact,
            allowed_hosts=allowed_hosts,
            trust_proxy=trust_proxy,
            trace_url=trace_url,
            polled=True,
        )
    )


class WsgiApp:
    """The HTTP API as a WSGI application; `wsgi` makes it.

    Example:
        >>> api = cloaca.web.wsgi("sqlite:///etl.db", authorize=authorize)

    Since 1.0.
    """

    def __init__(self, service: Service) -> None:
        """Private: use `wsgi`."""
        self._service = service

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answers a request."""
        if location := _with_slash(environ):
            redirect = [
                ("Location", location),
                ("Content-Length", "0"),
                ("Cache-Control", "no-store"),
                *((k.decode(), v.decode()) for k, v in WebService.security_headers()),
            ]
            start_response("308 Permanent Redirect", redirect)
            return []
        method = environ["REQUEST_METHOD"]
        path = environ.get("PATH_INFO", "").encode("latin-1") or b"/"
        target = quote(path, safe=_PATH)
        if query := environ.get("QUERY_STRING", ""):
            target = f"{target}?{query}"
        headers = list(_headers(environ))
        core = self._service.open()
        if isinstance(core, Unavailable):
            problem, body = core.answer(method)
            _start(start_response, STATUS, problem)
            return [body]
        access = None
        if core.admits(method, target, headers):
            names = {k.decode("latin-1"): v.decode("latin-1") for k, v in headers}
            client = environ.get("REMOTE_ADDR")
            shown = path.decode("utf-8", "replace")
            request = Request(method, shown, names, client, environ=environ)
            access = core_of(self._service.authorize(request))
        body = _body(environ) if access is not None else b""
        exchange = core.begin(method, target, headers, body, access, None)
        return _answer(exchange, start_response)


def _with_slash(environ: dict[str, Any]) -> str | None:
    """Returns a relative URL of the mount with a final slash; `None` if no redirect is needed."""
    if environ.get("PATH_INFO"):
        return None
    root = environ.get("SCRIPT_NAME", "").encode("latin-1")
    return with_slash(root, environ.get("QUERY_STRING", ""))


def _headers(environ: dict[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    for name, value in environ.items():
        if name.startswith("HTTP_"):
            name = name[5:]
        elif name not in ("CONTENT_TYPE", "CONTENT_LENGTH") or not value:
            continue
        yield name.replace("_", "-").lower().encode("latin-1"), value.encode("latin-1")


def _body(environ: dict[str, Any]) -> bytes:
    """Returns the body of a request, cut off after the limit."""
    length = environ.get("CONTENT_LENGTH") or "0"
    size = int(length) if length.isdigit() else 0
    if not size and environ.get("wsgi.input_terminated"):
        size = MAX_BODY + 1
    read: bytes = environ["wsgi.input"].read(min(size, MAX_BODY + 1)) if size else b""
    return read


def _answer(exchange: WebExchange, start_response: StartResponse) -> Iterable[bytes]:
    head = exchange.wait()
    assert isinstance(head, tuple), "an answer begins with its head"
    _start(start_response, *head)
    return _body_parts(exchange)


def _start(
    start_response: StartResponse, status: int, pairs: Iterable[tuple[bytes, bytes]]
) -> None:
    """Starts a response with a status and headers."""
    from http.client import responses

    shown = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in pairs
        if name not in _HOP_BY_HOP
    ]
    start_response(f"{status} {responses.get(status, 'Error')}", shown)


def _body_parts(exchange: WebExchange) -> Iterator[bytes]:
    while part := exchange.wait():
        assert isinstance(part, bytes), "a body follows the head"
        yield part
