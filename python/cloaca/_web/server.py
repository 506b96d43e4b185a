"""The HTTP API on a port, for `cloaca ui` and for programs without a web server."""

from __future__ import annotations

from cloaca import _core
from cloaca._values.arguments import check_flag, check_string
from cloaca._values.exceptions import ConfigurationError
from cloaca._web.log import write_log
from cloaca._web.service import location_of, options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike
    from types import TracebackType
    from typing import Self

    from cloaca._runner.runner import DefaultRunner

#: Minimum length of a token, in characters.
MIN_TOKEN = 16


class Server:
    """The HTTP API of a database on a port or on a Unix socket; `serve` starts it.

    Use it as a context manager, or call `close()`.

    Example:
        >>> with cloaca.web.serve("sqlite:///etl.db", port=8765) as server:
        ...     print(server.url)

    Since 1.0.
    """

    def __init__(
        self, core: _core.WebServer, host: str, token: str | None, uds: str | None = None
    ) -> None:
        """Private: use `serve`."""
        self._core = core
        self._token = token
        #: The address that the server listens on; `localhost` for a Unix socket.
        self.host = "localhost" if uds is not None else host
        #: The port that the server listens on; 0 for a Unix socket.
        self.port = core.port
        #: The path of the Unix socket that the server listens on; `None` if it listens on a port.
        self.uds = uds

    @property
    def url(self) -> str:
        """The URL of the server, without the token.

        The URL of a server on a Unix socket has no port, and clients connect to the socket instead.
        Since 1.0.
        """
        if self.uds is not None:
            return "http://localhost/"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/"

    @property
    def link(self) -> str:
        """The link that logs a browser in. It contains the token, so do not show it to others.

        Without a token, the link is `url`. Since 1.0.
        """
        if self._token is None:
            return self.url
        from urllib.parse import quote

        return f"{self.url}?token={quote(self._token, safe='')}"

    def close(self) -> None:
        """Stop listening, and close all connections. Since 1.0."""
        self._core.close()

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the server."""
        self.close()


def serve(
    database: str | DefaultRunner,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    uds: str | PathLike[str] | None = None,
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
    """Serve the HTTP API of a database on a port or on a Unix socket, on separate threads.

    Callers need the token, unless `no_token` is set. They send it as a bearer token, or open the
    server's link, which sets a cookie.

    Args:
        database: The URL of the database, or a runner whose database to serve.
        host: The IP address to listen on.
        port: The port to listen on; 0 picks a free port.
        uds: The path of a Unix socket to listen on, instead of an address and a port. Only the user
            of this process can connect to it.
        token: The token, of at least 16 characters. If omitted, a token is generated.
        no_token: Whether every program of this machine has every permission without a token. The
            address must then be a loopback address.
        schema: The PostgreSQL schema to serve. If omitted, the default schema and the schemas of
            all tenants are served.
        read_only: Whether to refuse every change.
        hide_payloads: Whether to hide inputs, results and contexts from everybody.
        redact: Strings, in addition to the built-in ones. If a key contains one of them, the key's
            value is hidden.
        allowed_hosts: The host names to answer for, besides IP addresses and `localhost`.
        trust_proxy: Whether to trust the headers X-Forwarded-Host and X-Forwarded-Proto.
        trace_url: The URL of a trace's page. `{trace_id}` and `{execution_id}` in the URL are
            replaced. Executions that were submitted in a trace have a link to the page.

    Returns:
        The server, which is already listening.

    Raises:
        ConfigurationError: An argument is not valid, or `no_token` is set and other machines can
            reach the address. The error is a `ValueError`.
        ConnectionError: The address or the socket is taken, or the database cannot be reached.

    Example:
        >>> with cloaca.web.serve("sqlite:///etl.db") as server:
        ...     print(server.link)

    Since 1.0.
    """
    if check_flag("no_token", no_token):
        if token is not None:
            raise ConfigurationError("token and no_token exclude each other")
    elif token is None:
        from secrets import token_urlsafe

        token = token_urlsafe(32)
    elif len(check_string("token", token)) < MIN_TOKEN:
        raise ConfigurationError(
            f"a token must have at least {MIN_TOKEN} characters, not {len(token)}"
        )
    elif not all("!" <= character <= "~" and character not in '",;\\' for character in token):
        # Headers and cookies cannot carry other characters.
        raise ConfigurationError(
            'a token must consist of ASCII letters, digits and punctuation other than " , ; and \\',
            hint="secrets.token_urlsafe(32) makes one",
        )
    _check_port(port)
    check_string("host", host)
    address = "127.0.0.1" if host == "localhost" else host
    path = None if uds is None else _socket_path(uds)
    if path is not None and (port or host != "127.0.0.1"):
        raise ConfigurationError("uds excludes host and port")
    url, schema = location_of(database, schema)
    chosen = options(read_only, hide_payloads, redact, allowed_hosts, trust_proxy, trace_url)
    core = _core.WebServer(url, schema, chosen, address, port, token, path)
    write_log(core.log)
    return Server(core, address, token, path)


def _socket_path(uds: str | PathLike[str]) -> str:
    from os import fspath

    try:
        return check_string("uds", fspath(uds))
    except TypeError:
        raise ConfigurationError(f"uds must be a path, not {uds!r:.80}") from None


def _check_port(port: object) -> None:
    if not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= 65535:
        raise ConfigurationError(f"a port must be a number from 0 to 65535, not {port!r}")
