"""The adapter for ASGI: FastAPI, Starlette, Litestar, Django."""

from __future__ import annotations

from urllib.parse import quote, unquote
from weakref import WeakKeyDictionary

from cloaca._core import LoopWaker
from cloaca._web.access import Access, Request, core_of
from cloaca._web.service import MAX_BODY, Service

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

    The database is opened at the first request. Nothing depends on lifespan events.

    Args:
        database: The URL of the database, or a runner, whose database is then served.
        authorize: Called with each request; returns the caller's access, or None to refuse with
            status 401. It may be a coroutine function.
        schema: The PostgreSQL schema to serve; without it, the tenants are served too.
        read_only: Whether to refuse every change.
        hide_payloads: Whether to hide inputs, results and contexts from everybody.
        redact: Further texts. The value of a key that contains one of them is hidden.
        allowed_hosts: The host names to answer for, besides IP addresses and `localhost`. If
            omitted, only the framework's own check applies.
        trust_proxy: Whether to believe the headers X-Forwarded-Host and X-Forwarded-Proto.
        trace_url: The URL of a trace's page, to which executions that were submitted in a trace are
            linked: `{trace_id}` and `{execution_id}` in it are replaced.

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

    Since 1.0.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loops: WeakKeyDictionary[AbstractEventLoop, _Loop] = WeakKeyDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] == "lifespan":
            return await _live(receive, send)
        if scope["type"] != "http":
            # There are no WebSockets: only HTTP requests pass the authorization.
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            return None
        method, target, path = scope["method"], _target(scope), _path(scope)
        headers: list[tuple[bytes, bytes]] = [(bytes(k), bytes(v)) for k, v in scope["headers"]]
        loop = self._running_loop()
        core = await loop.in_thread(self._service.open)
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
            return None  # the client is gone
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
    """The requests of one event loop. Used on the loop's thread only.

    It holds no reference to the loop, so that its entry in the application's map ends with the
    loop.
    """

    def __init__(self) -> None:
        self.waker = LoopWaker()
        self._waiting: dict[WebExchange, Future[None]] = {}

    async def in_thread(self, call: Callable[[], Any]) -> Any:
        """Calls a function that may block on another thread, and returns its result."""
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, call)

    def on_readable(self) -> None:
        """Lets the waiting requests look for the next parts of their answers."""
        self.waker.completed()
        # The service does not say whose part has arrived: each waiting request looks.
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


async def _live(receive: Receive, send: Send) -> None:
    """Answers the events of the server's start and end; nothing depends on them."""
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def _body(receive: Receive) -> bytes | None:
    """The body of a request, cut where it exceeds the limit; None if the client is gone."""
    parts, size = [], 0
    while True:
        event = await receive()
        if event["type"] != "http.request":
            return None
        part = event.get("body", b"")
        parts.append(part)
        size += len(part)
        # A longer body is refused by its size: the rest of it does not matter.
        if not event.get("more_body") or size > MAX_BODY:
            return b"".join(parts)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _path(scope: Scope) -> str:
    """The decoded path below the mount."""
    path, root = scope["path"], scope.get("root_path", "")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path or "/"


def _target(scope: Scope) -> str:
    """The path below the mount and the query, as the client sent them."""
    path = quote(_path(scope), safe=_PATH)
    raw = scope.get("raw_path")
    if raw:
        sent = raw.decode("latin-1").partition("?")[0]
        root = quote(scope.get("root_path", ""), safe=_PATH)
        if root and sent.startswith(root):
            sent = sent[len(root) :] or "/"
        # A framework may have rewritten the path: then its path is used.
        if unquote(sent) == _path(scope):
            path = sent
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path
