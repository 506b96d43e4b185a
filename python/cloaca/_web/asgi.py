"""The adapter for ASGI: FastAPI, Starlette, Litestar, Django."""

from __future__ import annotations

from urllib.parse import quote, unquote
from weakref import WeakKeyDictionary

from cloaca._core import LoopWaker, WebService
from cloaca._web.access import Access, Request, core_of
from cloaca._web.mount import with_slash
from cloaca._web.service import MAX_BODY, Service
from cloaca._web.unavailable import STATUS, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping
    from typing import Any

    from cloaca._core import WebExchange
    from cloaca._runner.runner import DefaultRunner

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# The characters of a path that are not percent-encoded.
_PATH = "/-._~!$&'()*+,;=:@"


def asgi(
    database: str | DefaultRunner,
    *,
    authorize: Callable[[Request], Access | Awaitable[Access | None] | None],
    schema: str | None = None,
    read_only: bool = False,
    hide_payloads: bool = False,
    redact: Iterable[str] = (),
    allowed_hosts: Iterable[str] | None = None,
    trust_proxy: bool = False,
    trace_url: str | None = None,
) -> AsgiApp:
    """Return the HTTP API of a database as an ASGI application, to mount below any path.

    The application opens the database at the first request, and needs no lifespan events. Until the
    database can be opened, every request is answered with status 503.

    Args:
        database: The URL of the database, or a runner whose database to serve.
        authorize: A function that receives each request that passes the checks of its size, host
            and origin. It returns the caller's access, or `None` to refuse the request with status
            401. It may be a coroutine function.
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
        >>> app.mount("/cloaca", cloaca.web.asgi("sqlite:///etl.db", authorize=authorize))

    Since 1.0.
    """
    return AsgiApp(
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
        )
    )


class AsgiApp:
    """The HTTP API as an ASGI application; `asgi` makes it.

    Example:
        >>> app.mount("/cloaca", cloaca.web.asgi("sqlite:///etl.db", authorize=authorize))

    Since 1.0.
    """

    def __init__(self, service: Service) -> None:
        """Private: use `asgi`."""
        self._service = service
        self._loops: WeakKeyDictionary[AbstractEventLoop, _Loop] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] == "lifespan":
            return await _confirm_lifespan(receive, send)
        if scope["type"] != "http":
            # Refuses WebSockets, because only HTTP requests are authorized.
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return None
        if location := _with_slash(scope):
            redirect = [
                (b"location", location.encode("latin-1")),
                (b"content-length", b"0"),
                (b"cache-control", b"no-store"),
                *WebService.security_headers(),
            ]
            await send({"type": "http.response.start", "status": 308, "headers": redirect})
            await send({"type": "http.response.body", "body": b""})
            return None
        method, target, path = scope["method"], _target(scope), _path(scope)
        headers: list[tuple[bytes, bytes]] = [(bytes(k), bytes(v)) for k, v in scope["headers"]]
        loop = self._running_loop()
        core = await loop.in_thread(self._service.open)
        if isinstance(core, Unavailable):
            return await _send(core, method, send)
        access = None
        if core.admits(method, target, headers):
            names = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in headers}
            client = scope.get("client")
            request = Request(method, path, names, client[0] if client else None, scope=scope)
            found = self._service.authorize(request)
            if hasattr(found, "__await__"):
                found = await found
            access = core_of(found)
        body = await _body(receive) if access is not None else b""
        if body is None:
            return None  # the client has disconnected
        exchange = core.begin(method, target, headers, body, access, loop.waker)
        await loop.answer(exchange, receive, send)
        return None

    def _running_loop(self) -> _Loop:
        import asyncio

        loop = asyncio.get_running_loop()
        known = self._loops.get(loop)
        if known is None:
            known = self._loops[loop] = _Loop()
            loop.add_reader(known.waker.fileno(), known.on_readable)
        return known


class _Loop:
    """The requests of one event loop. Only the loop's thread uses this object.

    The object holds no reference to the loop, so that the loop can be garbage-collected. The
    application's map then drops this object.
    """

    def __init__(self) -> None:
        self.waker = LoopWaker()
        self._waiting: dict[WebExchange, Future[None]] = {}

    async def in_thread(self, call: Callable[[], Any]) -> Any:
        """Calls a function on another thread, because it may block, and returns its result."""
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, call)

    def on_readable(self) -> None:
        """Wakes the waiting requests, so that they check for the next parts of their answers."""
        self.waker.completed()
        # The service does not report for which request a part has arrived, so every request checks.
        for future in self._waiting.values():
            if not future.done():
                future.set_result(None)

    async def answer(self, exchange: WebExchange, receive: Receive, send: Send) -> None:
        """Sends the parts of an answer as they arrive, until its end or a disconnect."""
        import asyncio

        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            while True:
                part = exchange.take()
                if part is None:
                    future = asyncio.get_running_loop().create_future()
                    self._waiting[exchange] = future
                    # A part may have arrived before the request began to wait.
                    part = exchange.take()
                    if part is None:
                        await asyncio.wait((future, gone), return_when="FIRST_COMPLETED")
                        if gone.done():
                            return
                        continue
                if isinstance(part, tuple):
                    status, headers = part
                    await send(
                        {"type": "http.response.start", "status": status, "headers": headers}
                    )
                    continue
                await send({"type": "http.response.body", "body": part, "more_body": bool(part)})
                if not part:
                    return
        finally:
            self._waiting.pop(exchange, None)
            gone.cancel()


async def _send(unavailable: Unavailable, method: str, send: Send) -> None:
    """Sends the answer to a request that arrives while the database cannot be opened."""
    headers, body = unavailable.answer(method)
    await send({"type": "http.response.start", "status": STATUS, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _confirm_lifespan(receive: Receive, send: Send) -> None:
    """Confirms the lifespan events of the server's start and end, without doing anything."""
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def _body(receive: Receive) -> bytes | None:
    """Returns the body of a request, cut off after the limit; `None` if the client disconnected."""
    parts, size = [], 0
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return None
        part = event.get("body", b"")
        parts.append(part)
        size += len(part)
        # The service refuses a longer body because of its size, so the rest is not read.
        if not event.get("more_body") or size > MAX_BODY:
            return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _with_slash(scope: Scope) -> str | None:
    """Returns a relative URL of the mount with a final slash; `None` if no redirect is needed."""
    path, root = scope["path"], scope.get("root_path", "")
    if path not in ("", root):
        return None
    return with_slash(root, scope.get("query_string", b"").decode("latin-1"))


def _path(scope: Scope) -> str:
    """Returns the decoded path below the mount."""
    path, root = scope["path"], scope.get("root_path", "")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path or "/"


def _target(scope: Scope) -> str:
    """Returns the path below the mount and the query, as the client sent them."""
    path = quote(_path(scope), safe=_PATH)
    raw = scope.get("raw_path")
    if raw:
        sent = raw.decode("latin-1").partition("?")[0]
        root = quote(scope.get("root_path", ""), safe=_PATH)
        if root and sent.startswith(root):
            sent = sent[len(root) :] or "/"
        # A framework may have rewritten the path. The rewritten path is then used.
        if unquote(sent) == _path(scope):
            path = sent
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path
