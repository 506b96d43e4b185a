"""The command that serves the web page and the HTTP API of a database."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

import click

from cloaca._cli._options import COMMAND_SETTINGS, Database, database_options
from cloaca._cli._output import note, print_json, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloaca._web.server import Server

# The default port. If another server uses it, a free port is chosen.
_PORT = 8765


@click.command(context_settings=COMMAND_SETTINGS)
@click.option(
    "--host", metavar="ADDRESS", help="The IP address to listen on; 127.0.0.1 if omitted."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help=f"The port to listen on; {_PORT}, or a free one, if omitted.",
)
@click.option(
    "--uds",
    metavar="PATH",
    help="A Unix socket to listen on instead, for a proxy. Only this user can connect to it.",
)
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with the token.",
)
@click.option(
    "--no-token",
    is_flag=True,
    help="Require no token: every program on this machine has access.",
)
@click.option("--read-only", is_flag=True, help="Refuse every change.")
@click.option("--hide-payloads", is_flag=True, help="Hide inputs and results.")
@click.option(
    "--redact",
    multiple=True,
    metavar="TEXT",
    help="Also hide the values of keys that contain this text.",
)
@click.option(
    "--allowed-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Also accept requests to this host name.",
)
@click.option("--trust-proxy", is_flag=True, help="Trust the headers X-Forwarded-*.")
@click.option("--trace-url", metavar="URL", help="Link to traces: a URL with {trace_id}.")
@click.option(
    "--demo", is_flag=True, help="Serve a demo database, with a runner that runs demo workflows."
)
@click.option("--open/--no-open", "opens", default=True, help="Whether to open a browser.")
@database_options
def ui(
    database: Database,
    as_json: bool,
    host: str | None,
    port: int | None,
    uds: str | None,
    token_file: Path | None,
    no_token: bool,
    read_only: bool,
    hide_payloads: bool,
    redact: tuple[str, ...],
    hosts: tuple[str, ...],
    trust_proxy: bool,
    trace_url: str | None,
    demo: bool,
    opens: bool,
) -> None:
    """Serve the web page and the HTTP API of a database until Ctrl-C.

    The printed link contains the token, which a browser keeps in a cookie. Programs send the header
    Authorization: Bearer TOKEN. CLOACA_UI_TOKEN, or the file of --token-file, sets the token.
    Otherwise the token is generated once and kept in ~/.local/state/cloaca/ui-token.
    """
    if no_token and token_file is not None:
        raise click.UsageError("--no-token and --token-file exclude each other")
    if uds is not None and (host is not None or port is not None):
        raise click.UsageError("--uds excludes --host and --port")
    options = {
        **({"uds": uds} if uds is not None else {"host": host or "127.0.0.1"}),
        "token": None if no_token else _token(token_file),
        "no_token": no_token,
        "read_only": read_only,
        "hide_payloads": hide_payloads,
        "redact": redact,
        "allowed_hosts": hosts,
        "trust_proxy": trust_proxy,
        "trace_url": trace_url,
    }
    if not demo:
        _serve(database, port, options, as_json, opens)
        return
    if database.is_chosen:
        raise click.UsageError("--demo has a database of its own: leave out -c and --schema")
    from cloaca._cli._demo import demo as open_demo

    note("filling a database; this takes some seconds")
    with open_demo() as url:
        _serve(Database(url, None), port, options, as_json, opens)


def serve_at(database: Database, path: str, as_json: bool) -> None:
    """Serves a database until Ctrl-C, and opens one of its pages."""
    _serve(database, None, {"token": _token(None), "no_token": False}, as_json, True, path)


def _serve(
    database: Database,
    port: int | None,
    options: dict[str, Any],
    as_json: bool,
    opens: bool,
    path: str = "",
) -> None:
    """Serves a database until Ctrl-C. The link leads to the page `path`."""
    from cloaca._values.exceptions import ConnectionError
    from cloaca._web.server import serve

    def start(port: int) -> Server:
        return serve(database.url, port=port, schema=database.schema, **options)

    location = _location(database)
    uds = options.get("uds")
    try:
        server = start(0 if uds else _PORT if port is None else port)
    except ConnectionError:
        if uds or port is not None:
            raise
        server = start(0)
    wait = _handle_signals()
    with server:
        link = server.link.replace(server.url, server.url + path, 1)
        if as_json:
            where = {"uds": uds} if uds else {}
            print_json({"url": server.url, "link": link, "token": options["token"], **where})
        else:
            note(f"serving {location}{f' on {uds}' if uds else ''}; stop with Ctrl-C")
            if options["no_token"]:
                note("no token is required: every program on this machine has access")
            say(link)
        sys.stdout.flush()
        if opens and not uds and not as_json and os.isatty(1):
            click.launch(link)
        wait()


def _location(database: Database) -> str:
    """Returns the location of the database.

    Opens the database before the server starts, so that errors of the database are reported with
    their hints.
    """
    from cloaca._values.exceptions import MigrationError

    try:
        return database.inspect().location
    except MigrationError:
        if database.schema is not None or not database.url.startswith("postgres"):
            raise
        from cloaca._core import DatabaseAdmin

        admin = DatabaseAdmin(database.url)
        # A database that has only tenants can be served: each request names a tenant.
        if not admin.list_tenants():
            raise
        return admin.location


def _handle_signals() -> Callable[[], None]:
    """Handles SIGTERM and Ctrl-C from now on; returns a function that waits for either."""
    import signal

    received: list[int] = []

    def on_signal(number: int, frame: object) -> None:
        received.append(number)

    # Python writes a byte to the pipe for each signal, so that a signal before the wait also ends
    # it. A lock in place of the pipe could block `on_signal`, which runs in the waiting thread.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, on_signal)
    # If the shell ignores Ctrl-C for this program, Ctrl-C stays ignored.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, on_signal)

    def wait() -> None:
        while not received:
            os.read(reader, 512)
        if signal.SIGINT in received:
            note("stopped")

    return wait


def _token(file: Path | None) -> str:
    """Returns the token from the file or the environment, or else this user's stored token.

    The first call generates and stores the user's token.
    """
    if file is not None:
        _protect(file)
        return file.read_text(encoding="utf-8").strip()
    if token := os.environ.get("CLOACA_UI_TOKEN"):
        return token
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    kept = Path(state) / "cloaca" / "ui-token"
    _protect(kept)
    try:
        if token := kept.read_text(encoding="utf-8").strip():
            return token
    except OSError:
        pass
    from secrets import token_urlsafe

    token = token_urlsafe(32)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(token)
    except OSError:
        # A token that cannot be stored is valid until this server ends.
        pass
    return token


def _protect(file: Path) -> None:
    """Makes the file of a token readable by its owner only. A missing file is ignored.

    Raises:
        ConfigurationError: Every user can read the file, and its mode cannot be changed, although
            the file system is writable.
    """
    try:
        mode = file.stat().st_mode
    except OSError:
        return  # reading the file reports the error
    if os.name == "nt" or not mode & 0o077 or not stat.S_ISREG(mode):
        return
    try:
        file.chmod(0o600)
    except OSError as error:
        if not mode & stat.S_IROTH or error.errno == errno.EROFS:
            return  # for example a mounted secret
        from cloaca._values.exceptions import ConfigurationError

        raise ConfigurationError(
            f"every user can read the token in '{file}', and its mode cannot be changed: "
            f"{error.strerror}",
            hint="make the file readable by its owner only: chmod 600",
        ) from None
    note(f"other users could read {file}: its mode is now 0600, but consider a new token")
