"""The HTTP API on a port, for `cloaca ui` and for programs without a web server."""

from __future__ import annotations

from cloaca import _core
from cloaca._values.exceptions import ConfigurationError
from cloaca._web.service import location_of, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from cloaca._runner.runner import DefaultRunner

#: Minimum length of a token, in characters.
MIN_TOKEN = 16


class Server:
    """The HTTP API of a database on a port; `serve` starts it.

    Use it as a context manager, or call `close()`.

    Since 1.0.
    """

    def __init__(self, core: _core.WebServer, host: str, token: str | None) -> None:
        self._core = core
        self._token = token
        #: The address that it listens on.
        self.host = host
        #: The port that it listens on.
        self.port = core.port

    @property
    def url(self) -> str:
        """The URL of the server, without the token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    @property
    def link(self) -> str:
        """The link that logs a browser in: it has the token. Do not show it to others."""
        return self.url if self._token is None else f"{self.url}?token={self._token}"

    def close(self) -> None:
        """Stop listening, and close all connections."""
        self._core.close()

    def __enter__(self) -> Self:
        """The server itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the server."""
        self.close()


def serve(
    database: str | DefaultRunner,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    no_token: bool = False,
    schema: str | None = None,
    read_only: bool = False,
    hide_payloads: bool = False,
    redact: Iterable[str] = (),
    allowed_hosts: Iterable[str] = (),
    trust_proxy: bool = False,
    trace_url: str | None = None,
) -> Server:
    """Serve the HTTP API of a database on a port, from threads of its own.

    Callers need the token: as a bearer token, or by the server's link, which sets a cookie.

    Args:
        database: The URL of the database, or a runner, whose database is then served.
        host: The IP address to listen on.
        port: The port to listen on; 0 for a free one.
        token: The token, of at least 16 characters; a new one if omitted.
        no_token: Whether to let every program of this machine in, with every permission. The
            address must then be a loopback address.
        schema: The PostgreSQL schema to serve; without it, the tenants are served too.
        read_only: Whether to refuse every change.
        hide_payloads: Whether to hide inputs, results and contexts from everybody.
        redact: Further texts. The value of a key that contains one of them is hidden.
        allowed_hosts: The host names to answer for, besides IP addresses and `localhost`.
        trust_proxy: Whether to believe the headers X-Forwarded-Host and X-Forwarded-Proto.
        trace_url: The URL of a trace's page, to which executions that were submitted in a trace are
            linked: `{trace_id}` and `{execution_id}` in it are replaced.

    Returns:
        The server, which listens already.

    Raises:
        ConfigurationError: An argument is not valid, or the address can be reached from other
            machines and callers need no token. It is a `ValueError`.
        ConnectionError: The address is taken, or the database cannot be reached.

    Example:
        >>> with cloaca.web.serve("sqlite:///etl.db") as server:
        ...     print(server.link)

    Since 1.0.
    """
    if no_token:
        if token is not None:
            raise ConfigurationError("token and no_token exclude each other")
    elif token is None:
        from secrets import token_urlsafe

        token = token_urlsafe(32)
    elif len(token) < MIN_TOKEN:
        raise ConfigurationError(f"a token has at least {MIN_TOKEN} characters, not {len(token)}")
    if not 0 <= port <= 65535:
        raise ConfigurationError(f"a port is a number from 0 to 65535, not {port}")
    address = "127.0.0.1" if host == "localhost" else host
    url, schema = location_of(database, schema)
    chosen = options(read_only, hide_payloads, redact, allowed_hosts, trust_proxy, trace_url)
    core = _core.WebServer(url, schema, chosen, address, port, token)
    return Server(core, address, token)
