"""`cloaca ui --uds` and `serve(uds=…)`: the HTTP API on a Unix socket, for proxies."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import cloaca
import cloaca.web
from test_web import Ui
from web_support import TOKEN


def ask(path: Path, target: str, token: str | None = TOKEN) -> int:
    """Sends a GET request to a server on a Unix socket; returns the status."""
    connection = http.client.HTTPConnection("localhost", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        connection.request("GET", target, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.fixture
def url(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'web.db'}"
    cloaca.DefaultRunner(url).shutdown()
    return url


def test_server_on_a_socket_is_private_and_needs_the_token(url: str, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with cloaca.web.serve(url, uds=path, token=TOKEN) as server:
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert (server.uds, server.port, server.url) == (str(path), 0, "http://localhost/")
        assert ask(path, "/api/v1/meta") == 200
        assert ask(path, "/api/v1/meta", None) == 401
        with pytest.raises(cloaca.ConnectionError, match="another process listens on it"):
            cloaca.web.serve(url, uds=path, token=TOKEN)
    assert [file for file in tmp_path.iterdir() if not file.name.startswith("web.db")] == []


def test_socket_without_a_server_is_replaced_but_no_other_file(url: str, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with cloaca.web.serve(url, uds=str(path), token=TOKEN):
        assert ask(path, "/healthz", None) == 200
    path.write_text("a file")
    with pytest.raises(cloaca.ConnectionError, match="is not a socket"):
        cloaca.web.serve(url, uds=path, token=TOKEN)
    assert path.read_text() == "a file"


def test_ui_serves_on_a_socket(url: str, tmp_path: Path) -> None:
    path = tmp_path / "ui.sock"
    ui = Ui(url, "--uds", str(path), CLOACA_UI_TOKEN=TOKEN)
    assert ui.link == f"http://localhost/?token={TOKEN}"
    assert ask(path, "/api/v1/meta") == 200
    assert ui.stop(signal.SIGTERM) == 0
    assert not path.exists()


def test_socket_excludes_an_address(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="uds excludes host and port"):
        cloaca.web.serve(url, uds=tmp_path / "s", port=8765)
    ui = Ui(url, "--uds", str(tmp_path / "s"), "--port", "8765")
    _, written = ui.process.communicate(timeout=30)
    assert ui.process.returncode == 2
    assert "--uds excludes --host and --port" in written


def test_server_leaves_the_socket_of_its_successor(url: str, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    first = cloaca.web.serve(url, uds=path, token=TOKEN)
    path.unlink()
    with cloaca.web.serve(url, uds=path, token=TOKEN):
        first.close()
        assert ask(path, "/healthz", None) == 200


def test_servers_that_start_at_once_listen(url: str, tmp_path: Path) -> None:
    # A process with the same id, which was killed, has left its folder.
    (tmp_path / f".{os.getpid():x}0").mkdir()
    paths = [tmp_path / f"{number}.sock" for number in range(8)]
    with ThreadPoolExecutor() as threads:
        servers = list(
            threads.map(lambda path: cloaca.web.serve(url, uds=path, token=TOKEN), paths)
        )
    assert [ask(path, "/healthz", None) for path in paths] == [200] * 8
    for server in servers:
        server.close()
