"""A tiny HTTP server for `/metrics`, on a thread of its own."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsServer:
    """Serves the text that `read` returns, until it is closed."""

    def __init__(
        self, read: Callable[[], str], host: str, port: int, names: Iterable[str] = ()
    ) -> None:
        """Start.

        Args:
            read: Returns the text.
            host: The address to serve at.
            port: The port; 0 for a free one.
            names: Host names that requests may use, besides `localhost`, `host` and addresses;
                `*` for any.

        Raises:
            ConfigurationError: The address cannot be used.
        """
        known = {"localhost", host.lower(), *(name.strip().lower() for name in names)}

        class Handler(BaseHTTPRequestHandler):
            # A client that sends nothing must not hold a thread for ever.
            timeout = 10

            def do_GET(self) -> None:
                # Another site may let its own name resolve to this address (DNS rebinding).
                if not ("*" in known or _may_ask(self.headers.get("Host"), known)):
                    self.send_error(421, "not served under this name")
                    return
                if self.path.partition("?")[0] not in {"/metrics", "/"}:
                    self.send_error(404, "only /metrics is served")
                    return
                try:
                    body = read().encode()
                except Exception as error:
                    self.send_error(503, explain=str(error))
                    return
                self.send_response(200)
                self.send_header("Content-Type", _CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Logs nothing, because scrapes are frequent."""

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Server((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                f"metrics cannot be served at {host}:{port}: {error}",
                hint="another process may use the port; metrics_port=0 takes a free one",
            ) from None
        self._server.daemon_threads = True
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}/metrics"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="cloaca-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop, and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _may_ask(header: str | None, known: Collection[str]) -> bool:
    """Whether a request's `Host` is an address, or a name under which the metrics are served."""
    from ipaddress import ip_address

    if header is None:
        return True  # not a browser, which always sends one
    name, colon, port = header.strip().lower().rpartition(":")
    if not colon or not port.isdigit():
        name = header.strip().lower()
    if name.rstrip(".") in known:
        return True
    try:
        ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
