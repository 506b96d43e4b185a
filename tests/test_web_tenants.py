"""The HTTP API of a PostgreSQL database with tenants, and the end of its slow queries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cloaca
import cloaca.web
from test_web import Ui
from waiting_support import wait_until
from web_support import TOKEN, Answer, ask_app, call

if TYPE_CHECKING:
    from conftest import Server


def code(answer: Answer) -> tuple[int, str]:
    """Returns the HTTP status and the error code of a refused request."""
    return answer.status, answer.json()["code"]


def create(url: str, *names: str) -> None:
    admin = cloaca.DatabaseAdmin(url)
    for name in names:
        admin.create_tenant(cloaca.TenantConfig(name, f"{name}_{url.rpartition('/')[2][:20]}"))


def test_database_with_only_tenants_is_served(fresh_postgres: Callable[[], str]) -> None:
    url = fresh_postgres()
    with pytest.raises(cloaca.MigrationError):
        cloaca.web.serve(url, token=TOKEN)
    create(url, "only_red", "only_blue")
    for read_only in (False, True):
        with cloaca.web.serve(url, token=TOKEN, read_only=read_only) as server:
            api = f"{server.url}api/v1"
            assert call(f"{server.url}healthz").status == 200
            assert call(f"{api}/meta").json()["backend"] == "postgres"
            schemas = [item["schema"] for item in call(f"{api}/tenants").json()["items"]]
            assert schemas == ["only_blue", "only_red"]
            assert call(f"{api}/executions?tenant=only_red").json()["items"] == []
            refused = call(f"{api}/executions")
            assert code(refused) == (503, "migration")
            assert "?tenant=" in refused.json()["hint"]


def test_default_schema_that_is_created_later_is_served(
    fresh_postgres: Callable[[], str],
) -> None:
    url = fresh_postgres()
    create(url, "later_red")
    with cloaca.web.serve(url, token=TOKEN) as server:
        path = f"{server.url}api/v1/executions"
        assert call(path).status == 503
        cloaca.DefaultRunner(url).shutdown()
        wait_until(lambda: call(path).status == 200)
        assert call(path).json()["items"] == []


def test_ui_serves_a_database_with_only_tenants(fresh_postgres: Callable[[], str]) -> None:
    url = fresh_postgres()
    create(url, "ui_red")
    ui = Ui(url, "--port", "0", CLOACA_UI_TOKEN=TOKEN)
    try:
        api = f"{ui.link.partition('?')[0]}api/v1"
        assert [item["schema"] for item in call(f"{api}/tenants").json()["items"]] == ["ui_red"]
    finally:
        ui.process.terminate()
        ui.process.communicate(timeout=30)


def test_caller_who_may_use_some_tenants_can_list_them(
    fresh_postgres: Callable[[], str],
) -> None:
    url = fresh_postgres()
    create(url, "list_red", "list_blue")
    access = cloaca.web.Access("eve", {"view"}, tenants={"list_red"})
    app = cloaca.web.wsgi(url, authorize=lambda _: access)
    for query in ("", "?tenant=list_red"):
        status, body = ask_app(app, "GET", f"/api/v1/tenants{query}")
        assert status == 200
        assert [item["schema"] for item in json.loads(body)["items"]] == ["list_red"]
    assert ask_app(app, "GET", "/api/v1/tenants?tenant=list_blue")[0] == 403


def test_limited_caller_lists_no_tenants_on_sqlite(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tenants.db'}"
    cloaca.DefaultRunner(url).shutdown()
    app = cloaca.web.wsgi(url, authorize=lambda _: cloaca.web.Access("eve", tenants={"red"}))
    status, body = ask_app(app, "GET", "/api/v1/tenants")
    assert (status, json.loads(body)["items"]) == (200, [])


def test_postgres_ends_a_query_at_the_deadline_of_its_request(
    fresh_postgres: Callable[[], str], server: Server
) -> None:
    url = fresh_postgres()
    name = url.rpartition("/")[2]
    cloaca.DefaultRunner(url).shutdown()
    # Reading the runners takes a minute, without waiting for a lock.
    server.sql(
        "ALTER TABLE cloacina_runners RENAME TO real_runners; "
        "CREATE VIEW cloacina_runners AS SELECT r.* FROM pg_sleep(60), real_runners AS r",
        name,
    )
    sleeping = (
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND state = 'active'"
    )
    with cloaca.web.serve(url, token=TOKEN) as web:
        late = call(f"{web.url}api/v1/runners")
        assert code(late) == (504, "deadline")
        wait_until(lambda: server.sql(sleeping) == "0", 3)
        assert call(f"{web.url}api/v1/executions").status == 200
