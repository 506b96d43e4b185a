"""Tenants of a PostgreSQL database: provisioning, least privilege, isolation (semantics H)."""

from __future__ import annotations

import logging
import shutil
import string
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import cloaca
from cloaca import (
    ConfigurationError,
    DatabaseAdmin,
    DatabaseError,
    DefaultRunner,
    TenantConfig,
)
from tenant_server import TenantServer, psql


@pytest.fixture(scope="module")
def server() -> Iterator[TenantServer]:
    # The server runs as another user, who must be able to enter the folder.
    folder = Path(tempfile.mkdtemp(prefix="cloaca-tenants-"))
    folder.chmod(0o755)
    started = TenantServer(folder)
    try:
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def admin_url(server: TenantServer) -> str:
    """The URL of a new database, with the superuser as its user."""
    return server.database(fresh("db"))


@pytest.fixture
def admin(admin_url: str) -> DatabaseAdmin:
    return DatabaseAdmin(admin_url)


def fresh(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


def config(password: str | None = None) -> TenantConfig:
    name = fresh("t")
    return TenantConfig(name, f"{name}_user", password)


def define(answer: str) -> None:
    with cloaca.WorkflowBuilder("whoami"):

        @cloaca.task
        def tell(context):
            context["answer"] = f"{answer} {context['who']}"


def test_h2_the_credentials_work_in_the_requested_schema(admin, admin_url):
    made = admin.create_tenant(config())
    asked, got = urlsplit(admin_url), urlsplit(made.connection_string)
    assert (got.hostname, got.port, got.path) == (asked.hostname, asked.port, asked.path)
    assert (got.username, got.password) == (made.username, made.password)
    assert len(made.password) >= 24
    define("hello")
    # The schema name can be omitted, because sessions of the tenant's role start in the tenant's
    # schema.
    for schema in (made.schema_name, None):
        with DefaultRunner(made.connection_string, schema=schema) as runner:
            assert runner.execute("whoami", {"who": "you"}).final_context["answer"] == "hello you"
    count = f"SELECT count(*) FROM {made.schema_name}.cloacina_executions"
    assert psql(admin_url, count) == "2"


def test_h2_a_tenant_reaches_its_own_tables_and_nothing_else(admin, admin_url):
    with DefaultRunner(admin_url):
        pass  # The runner has created the administrator's tables in `public`.
    a, b = admin.create_tenant(config()), admin.create_tenant(config())
    for denied in (
        f"SELECT * FROM {b.schema_name}.cloacina_executions",
        f"INSERT INTO {b.schema_name}.cloacina_inputs VALUES (gen_random_uuid(), '{{}}')",
        f"DELETE FROM {b.schema_name}.cloacina_tasks",
        "SELECT * FROM public.cloacina_executions",
        "SELECT * FROM public.cloacina_migrations",
        "CREATE SCHEMA mine",
        "CREATE TABLE public.mine (id int)",
        f"CREATE TABLE {a.schema_name}.mine (id int)",
        f"DELETE FROM {a.schema_name}.cloacina_migrations",
        f"DROP TABLE {a.schema_name}.cloacina_events",
        "CREATE ROLE other",
        "CREATE DATABASE other",
        f"SET ROLE {b.username}",
        "SELECT * FROM pg_authid",
    ):
        with pytest.raises(PermissionError, match=r"permission denied|must be (owner|able)"):
            psql(a.connection_string, denied)
    for allowed in (
        "SELECT count(*) FROM cloacina_executions",
        "INSERT INTO cloacina_inputs VALUES (gen_random_uuid(), '{}')",
        "UPDATE cloacina_inputs SET input = '[]'",
        "DELETE FROM cloacina_inputs",
        "SELECT * FROM cloacina_migrations",
    ):
        psql(a.connection_string, allowed)
    flags = f"SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls \
        FROM pg_roles WHERE rolname = '{a.username}'"
    assert psql(admin_url, flags) == "f"
    for schema in (b.schema_name, "public"):
        with pytest.raises(
            DatabaseError, match=r"does not let the role|permission denied for table"
        ):
            DefaultRunner.with_schema(a.connection_string, schema)
    with pytest.raises(cloaca.MigrationError, match="may not migrate"):
        DefaultRunner.with_schema(a.connection_string, fresh("new"))


def test_h2_tenant_can_write_tables_of_later_migrations(admin, admin_url):
    made = admin.create_tenant(config())
    later = f"SET ROLE postgres; CREATE TABLE {made.schema_name}.cloacina_later (id bigint)"
    psql(admin_url, later)
    psql(made.connection_string, "INSERT INTO cloacina_later VALUES (1)")


def test_h2_tenants_with_equal_workflow_names_stay_separate(admin, admin_url):
    a, b = admin.create_tenant(config()), admin.create_tenant(config())
    define("shared name,")
    with (
        DefaultRunner(a.connection_string, schema=a.schema_name) as runner_a,
        DefaultRunner(b.connection_string, schema=b.schema_name) as runner_b,
    ):
        handles = {}
        for who, runner in (("a", runner_a), ("b", runner_b)):
            handles[who] = runner.submit_many(("whoami", {"who": who}) for _ in range(50))
        for who, submitted in handles.items():
            answers = {handle.result(60).final_context["answer"] for handle in submitted}
            assert answers == {f"shared name, {who}"}
        foreign = handles["b"][0].id
        for call in (runner_a.get_execution, runner_a.events, runner_a.cancel_execution):
            with pytest.raises(cloaca.CloacaException, match="no execution"):
                call(foreign)
        assert {entry.execution_id for entry in runner_a.list_executions(limit=200)} == {
            handle.id for handle in handles["a"]
        }
        assert len(runner_b.events(foreign)) > 0


VICTIM = """
    import os, signal, sys
    import cloaca

    with cloaca.WorkflowBuilder("dies"):
        @cloaca.task
        def work(context):
            os.kill(os.getpid(), signal.SIGKILL)

    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        runner.submit("dies")
        runner.run_forever()
"""


def test_h2_rescues_and_events_stay_inside_a_tenant(admin, admin_url, script):
    a, b = admin.create_tenant(config()), admin.create_tenant(config())
    process = script(VICTIM, a.connection_string)
    process.communicate(timeout=60)
    execution_id = psql(admin_url, f"SELECT id FROM {a.schema_name}.cloacina_executions")
    with cloaca.WorkflowBuilder("dies"):

        @cloaca.task
        def work(context):
            context["rescued"] = True

    state = f"SELECT state FROM {a.schema_name}.cloacina_tasks"
    with DefaultRunner(b.connection_string) as runner:
        # During the loop, this runner would rescue the task if the task belonged to its own tenant.
        for _ in range(3):
            assert runner.execute("dies").status == "Completed"
            time.sleep(0.5)  # A runner searches for dead runners once a second.
        assert psql(admin_url, state) == "2"
        with pytest.raises(cloaca.CloacaException, match="no execution"):
            runner.events(execution_id)
    with DefaultRunner(a.connection_string) as runner:
        result = runner.get_handle(execution_id).result(60)
        assert result.final_context["rescued"] is True
        assert "task_rescued" in {event.type for event in runner.events(execution_id)}


def test_h2_creating_a_tenant_twice_is_an_error(admin):
    wanted = config()
    made = admin.create_tenant(wanted)
    for again in (
        wanted,
        TenantConfig(wanted.schema_name, fresh("u")),
        TenantConfig(fresh("s"), wanted.username),
    ):
        with pytest.raises(DatabaseError, match=r"was not created: .* exists? already"):
            admin.create_tenant(again)
    assert psql(made.connection_string, "SELECT 1") == "1"
    assert [tenant.schema_name for tenant in admin.list_tenants()] == [wanted.schema_name]


def test_h2_remove_undoes_create(admin, admin_url):
    made = admin.create_tenant(config())
    other = admin.create_tenant(config())
    assert [(t.schema_name, t.username) for t in admin.list_tenants()] == sorted(
        [(made.schema_name, made.username), (other.schema_name, other.username)]
    )
    for schema, user, why in (
        (made.schema_name, other.username, "was not created for it; its role is"),
        (made.schema_name, "postgres", "was not created for it"),
        (made.schema_name, fresh("nobody"), "its role is"),
        (fresh("none"), fresh("nobody"), "neither"),
    ):
        with pytest.raises(DatabaseError, match=why):
            admin.remove_tenant(schema, user)
    admin.remove_tenant(made.schema_name, made.username)
    left = f"SELECT count(*) FROM pg_roles WHERE rolname = '{made.username}'"
    assert psql(admin_url, left) == "0"
    with pytest.raises(DatabaseError, match="neither"):
        admin.remove_tenant(made.schema_name, made.username)
    # The names can be used again.
    admin.create_tenant(TenantConfig(made.schema_name, made.username))


def test_h2_schema_without_a_tenant_is_not_removed(admin, admin_url):
    psql(admin_url, "CREATE SCHEMA precious; CREATE TABLE precious.data (id int)")
    with pytest.raises(DatabaseError, match="none of the engine's tables"):
        admin.remove_tenant("precious", fresh("nobody"))
    assert psql(admin_url, "SELECT count(*) FROM precious.data") == "0"


def test_h2_removing_a_tenant_with_a_live_runner_needs_force(admin, admin_url):
    made = admin.create_tenant(config())
    define("still here,")
    settings = cloaca.DefaultRunnerConfig(db_timeout=1.0)
    runner = DefaultRunner(made.connection_string, settings, schema=made.schema_name)
    try:
        with pytest.raises(DatabaseError, match=r"(?s)1 live runner.*shut them down"):
            admin.remove_tenant(made.schema_name, made.username)
        assert runner.execute("whoami", {"who": "me"}).status == "Completed"
        admin.remove_tenant(made.schema_name, made.username, force=True)
        assert admin.list_tenants() == []
        with pytest.raises(DatabaseError):
            runner.execute("whoami", {"who": "me"})
    finally:
        runner.shutdown(timeout=0)


def test_h2_password_can_have_any_printable_character_and_is_hidden(server, admin, caplog):
    caplog.set_level(logging.DEBUG)
    printable = "".join(sorted(set(string.printable) - set("\t\n\r\x0b\x0c")))
    passwords = [
        printable,
        "'; DROP ROLE postgres; --",
        "\\",
        "$$",
        "a b",
        "%41",
        "äß€😀",
        "x" * 200,
    ]
    define("secret")
    for password in passwords:
        wanted = config(password)
        made = admin.create_tenant(wanted)
        assert made.password == password
        assert psql(made.connection_string, "SELECT current_user") == made.username
        with DefaultRunner(made.connection_string) as runner:
            assert runner.execute("whoami", {"who": "x"}).status == "Completed"
            shown = [repr(runner)]
        with pytest.raises(DatabaseError) as raised:
            admin.create_tenant(wanted)
        shown += [repr(made), str(made), repr(wanted), repr(raised.value), str(raised.value)]
        if len(password) > 5:
            for text in [*shown, caplog.text, server.log()]:
                assert password not in text
        # The server refuses a wrong password, which shows that it checked the right one.
        wrong = made.connection_string.replace(made.username + ":", made.username + ":x")
        with pytest.raises(PermissionError, match="password authentication failed"):
            psql(wrong, "SELECT 1")


HOSTILE = [
    "",
    " ",
    "a b",
    "a;b",
    'a"b',
    "a'b",
    "a\\b",
    "a-b",
    "a.b",
    "a\0b",
    "a\n",
    "1a",
    "ä",
    "日本",
    "x" * 64,
    "pg_catalog",
    "PG_x",
    "public",
    'x"; DROP SCHEMA public CASCADE; --',
]


@pytest.mark.parametrize("name", [*HOSTILE, "information_schema"])
def test_h1_a_hostile_schema_name_is_refused_before_any_sql(name):
    # Nothing listens on this port, so a connection attempt would raise another error.
    nowhere = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"
    with pytest.raises(ConfigurationError, match="Schema name"):
        TenantConfig(name, "fine")
    with pytest.raises(ConfigurationError, match="Schema name"):
        DatabaseAdmin(nowhere).remove_tenant(name, "fine")
    if name != "public":
        with pytest.raises(ConfigurationError, match="Schema name"):
            DefaultRunner.with_schema(nowhere, name)


@pytest.mark.parametrize("name", [*HOSTILE, "none"])
def test_h1_a_hostile_user_name_is_refused_before_any_sql(name):
    nowhere = "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"
    with pytest.raises(ConfigurationError, match="Username"):
        TenantConfig("fine", name)
    with pytest.raises(ConfigurationError, match="Username"):
        DatabaseAdmin(nowhere).remove_tenant("fine", name)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, "u"), "schema_name must be a string"),
        (("s", None), "username must be a string"),
        (("s", "u", b"x"), "password must be a string"),
        (("s", "u", ""), "password cannot be empty"),
        (("s", "u", "s3cret\0"), "cannot contain a NUL"),
        (("s", "u", "s3cret\ud800"), "Unicode"),
    ],
)
def test_h1_names_and_password_must_be_valid_strings(arguments, text):
    with pytest.raises(ConfigurationError, match=text) as raised:
        TenantConfig(*arguments)
    assert "s3cret" not in str(raised.value)


def test_h1_keywords_and_mixed_case_are_valid_names(admin, admin_url):
    for name in ("select", "User", "_", "x" * 63):
        made = admin.create_tenant(TenantConfig(name, f"{name[:50]}_u"))
        with DefaultRunner(made.connection_string, schema=name):
            pass
        admin.remove_tenant(made.schema_name, made.username)
    assert admin.list_tenants() == []


@pytest.mark.parametrize("url", ["sqlite:///x.db", ":memory:", "x.db"])
def test_h3_error_on_sqlite_suggests_a_file_per_tenant(url):
    with pytest.raises(ConfigurationError, match="no schemas") as raised:
        DatabaseAdmin(url)
    assert "a separate file for each tenant" in str(raised.value.hint)


# Steps of `create_tenant`: the command tags of its statements, and its last check. The test below
# makes one step fail.
STEPS = [
    "CREATE SCHEMA",
    "CREATE TABLE",
    "CREATE INDEX",
    "GRANT",
    "REVOKE",
    "ALTER DEFAULT PRIVILEGES",
    "last check",
]


@pytest.mark.parametrize("step", STEPS)
def test_h2_failed_creation_of_a_tenant_changes_nothing(step, admin, admin_url):
    wanted = config()
    if step == "last check":
        # The last step of `create_tenant` checks PUBLIC's privileges. This grant makes it fail.
        psql(admin_url, "GRANT CREATE ON SCHEMA public TO PUBLIC")
    else:
        psql(
            admin_url,
            f"""
            CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS
            $$BEGIN RAISE EXCEPTION 'injected'; END$$;
            CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('{step}')
            EXECUTE FUNCTION public.refuse()
            """,
        )
    with pytest.raises(DatabaseError, match=r"injected|REVOKE CREATE ON SCHEMA public"):
        admin.create_tenant(wanted)
    leftovers = f"""SELECT (SELECT count(*) FROM pg_roles WHERE rolname = '{wanted.username}'),
        (SELECT count(*) FROM pg_namespace WHERE nspname = '{wanted.schema_name}'),
        (SELECT count(*) FROM pg_default_acl), (SELECT count(*) FROM pg_db_role_setting)"""
    assert psql(admin_url, leftovers).split("|")[:3] == ["0", "0", "0"]
    psql(
        admin_url, "DROP EVENT TRIGGER IF EXISTS refuse; REVOKE CREATE ON SCHEMA public FROM PUBLIC"
    )
    admin.create_tenant(wanted)


def test_h2_administrator_without_privileges_gets_an_error(server, admin_url):
    role = fresh("weak")
    psql(admin_url, f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    weak = admin_url.replace("postgres@", f"{role}:x@")
    wanted = config()
    with pytest.raises(DatabaseError, match="permission denied"):
        DatabaseAdmin(weak).create_tenant(wanted)
    psql(admin_url, f"ALTER ROLE {role} CREATEROLE")
    with pytest.raises(DatabaseError, match="permission denied"):
        DatabaseAdmin(weak).create_tenant(wanted)
    # With CREATEROLE and this grant, a role that is not a superuser can create tenants.
    database = admin_url.rpartition("/")[2]
    psql(admin_url, f"GRANT CREATE ON DATABASE {database} TO {role}")
    made = DatabaseAdmin(weak).create_tenant(wanted)
    define("made by")
    with DefaultRunner(made.connection_string) as runner:
        assert runner.execute("whoami", {"who": "weak"}).status == "Completed"
    DatabaseAdmin(weak).remove_tenant(made.schema_name, made.username)


def test_h2_error_for_an_outdated_schema_names_migrate_tenant(admin, admin_url):
    made = admin.create_tenant(config())
    table = f"{made.schema_name}.cloacina_migrations"
    psql(admin_url, f"DROP SCHEMA {made.schema_name} CASCADE; CREATE SCHEMA {made.schema_name}")
    psql(admin_url, f"CREATE TABLE {table} (version text primary key, applied_at bigint not null)")
    psql(admin_url, f"GRANT USAGE ON SCHEMA {made.schema_name} TO {made.username}")
    psql(admin_url, f"GRANT SELECT ON {table} TO {made.username}")
    with pytest.raises(cloaca.MigrationError, match=r"(?s)may not migrate it.*migrate_tenant"):
        DefaultRunner.with_schema(made.connection_string, made.schema_name)
    admin.migrate_tenant(made.schema_name)
    define("migrated")
    with DefaultRunner.with_schema(made.connection_string, made.schema_name) as runner:
        assert runner.execute("whoami", {"who": "now"}).status == "Completed"
    with pytest.raises(DatabaseError, match="there is no tenant"):
        admin.migrate_tenant(fresh("none"))
