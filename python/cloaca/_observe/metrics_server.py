"""A small HTTP server for `/metrics`, on a separate thread."""

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
    """Serves the metrics as text at `/metrics`, until the server is closed."""

    def __init__(
        self, read: Callable[[], str], host: str, port: int, names: Iterable[str] = ()
    ) -> None:
        """Start the server.

        Args:
            read: The function that returns the text.
            host: The address to listen on.
            port: The port; 0 picks a free port.
            names: Host names that requests may use, besides `localhost`, `host` and IP addresses;
                `*` allows any name.

        Raises:
            ConfigurationError: The address cannot be used.
        """
        known = {"localhost", host.lower(), *(name.strip().lower() for name in names)}

        class Handler(BaseHTTPRequestHandler):
            # Maximum time that a client may send nothing before it is disconnected, in seconds.
            # Each client occupies a thread.
            timeout = 10

            def do_GET(self) -> None:
                # Refuses a host name that another website has pointed at this address (DNS
                # rebinding).
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
                hint="another process may use the port; metrics_port=0 picks a free one",
            ) from None
        self._server.daemon_threads = True
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_address[1]}/metrics"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="cloaca-metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop the server, and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _may_ask(header: str | None, known: Collection[str]) -> bool:
    """Returns whether a request's header `Host` is an address or a known name."""
    from ipaddress import ip_address

    if header is None:
        return True  # browsers always send `Host`, so the client is not a browser
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
