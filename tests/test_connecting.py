"""An unusable database is reported quickly, with cause and address but without the password."""

from __future__ import annotations

import socket
import subprocess
import time
import uuid

import pytest

import cloaca
from processes import until

PASSWORD = "s3cr3t-w0rd"


def refused(url, *words, within=15):
    """Asserts that opening a database fails within `within` seconds, and returns the error.

    The error and its hint must contain all `words`, and must not contain the password.
    """
    start = time.monotonic()
    with pytest.raises(cloaca.DatabaseError) as caught:
        cloaca.DefaultRunner(url)
    assert time.monotonic() - start < within
    message = f"{caught.value} {caught.value.hint}"
    for word in words:
        assert word in message
    assert PASSWORD not in message + repr(caught.value)
    return caught.value


@pytest.fixture
def role(server):
    """The name of a new role that needs its password to log in."""
    name = f"role_{uuid.uuid4().hex[:12]}"
    server.sql(
        "DO $$BEGIN CREATE ROLE password_required; EXCEPTION WHEN OTHERS THEN NULL; END$$;"
        f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' IN ROLE password_required"
    )
    return name


def login(postgres, role, password):
    return postgres.replace("//postgres@", f"//{role}:{password}@")


def test_a_wrong_password_is_reported(postgres, role):
    error = refused(login(postgres, role, PASSWORD + "x"), role, "password", "127.0.0.1")
    assert isinstance(error, cloaca.DatabaseError)


def test_right_password_is_accepted(postgres, role, server):
    server.sql(f"GRANT ALL ON SCHEMA public TO {role}", postgres.rpartition("/")[2])
    cloaca.DefaultRunner(login(postgres, role, PASSWORD)).shutdown()


def test_a_missing_database_is_reported(server):
    url = f"{server.url.rpartition('/')[0]}/no_such_database"
    refused(url, "no_such_database", "127.0.0.1")


def test_role_without_write_access_gets_an_error(postgres, role, server):
    # The role can log in, but has no other privileges.
    refused(login(postgres, role, PASSWORD), "may not migrate", "'public'", role)


def test_role_with_read_only_transactions_is_reported(postgres, role, server):
    database = postgres.rpartition("/")[2]
    server.sql(
        f"GRANT ALL ON SCHEMA public TO {role};"
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
        database,
    )
    refused(login(postgres, role, PASSWORD), "read-only", "127.0.0.1")


def test_role_without_write_access_to_a_migrated_database_gets_an_error(postgres, role, server):
    cloaca.DefaultRunner(postgres).shutdown()
    server.sql(
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}", postgres.rpartition("/")[2]
    )
    refused(login(postgres, role, PASSWORD), "permission denied", role)


def test_port_without_a_listener_is_reported():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        url = f"postgresql://someone:{PASSWORD}@127.0.0.1:{port}/work?connect_timeout=5"
        error = refused(url, "127.0.0.1", str(port), "work")
    assert isinstance(error, cloaca.ConnectionError)
    assert isinstance(error, ConnectionError)


def test_silent_server_is_reported_within_connect_timeout():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        url = f"postgresql://someone:{PASSWORD}@127.0.0.1:{port}/work?connect_timeout=2"
        error = refused(url, "127.0.0.1", str(port), "connect_timeout", within=10)
    assert isinstance(error, cloaca.ConnectionError)


def test_unknown_host_is_reported():
    url = f"postgresql://someone:{PASSWORD}@no-such-host.invalid/work?connect_timeout=5"
    error = refused(url, "no-such-host.invalid", within=30)
    assert isinstance(error, cloaca.ConnectionError)


def failure(url):
    try:
        cloaca.DefaultRunner(url).shutdown()
    except cloaca.DatabaseError as error:
        return error
    return None


def test_a_server_that_shuts_down_is_reported(private_server):
    # A server in a smart shutdown accepts no new connections.
    client = subprocess.Popen(
        ["psql", "--quiet", "--no-psqlrc", private_server.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write("\\echo here\n")
    client.stdin.flush()
    assert client.stdout.readline() == "here\n"
    script = private_server.stop_in_background("smart")
    try:
        until("the server refuses connections", lambda: failure(private_server.url) is not None)
        error = failure(private_server.url)
        assert isinstance(error, cloaca.ConnectionError)
        assert "127.0.0.1" in str(error)
        assert "shutting down" in str(error)
    finally:
        client.communicate(timeout=30)
        script.communicate(timeout=60)


def test_greenlets_instead_of_threads_are_refused(monkeypatch):
    monkeypatch.setattr("_thread.start_new_thread", lambda *args: 1)
    with pytest.raises(cloaca.ConfigurationError, match="gevent or eventlet") as caught:
        cloaca.DefaultRunner(":memory:")
    assert "thread=False" in caught.value.hint
