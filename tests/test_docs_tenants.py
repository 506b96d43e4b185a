"""The shell commands of the guide to tenants work. `test_docs_blocks.py` runs the Python blocks."""

from __future__ import annotations

import subprocess
import uuid

import pytest

import cloaca
from tenant_server import psql


@pytest.fixture
def databases(postgres: str) -> list[str]:
    """URLs of two fresh databases."""
    urls = []
    for _ in range(2):
        name = f"docs_{uuid.uuid4().hex[:12]}"
        psql(postgres, f"CREATE DATABASE {name}")
        urls.append(f"{postgres.rpartition('/')[0]}/{name}")
    return urls


def test_a_tenant_moves_as_the_guide_says(databases):
    """A runner on the new database reads the finished execution, and runs the open execution."""
    with cloaca.WorkflowBuilder("moves"):

        @cloaca.task
        def arrive(context):
            context["arrived"] = True

    old, new = databases
    user = f"u_{uuid.uuid4().hex[:12]}"
    made = cloaca.DatabaseAdmin(old).create_tenant(cloaca.TenantConfig("acme", user))
    with cloaca.DefaultRunner(made.connection_string) as runner:
        finished = runner.submit("moves")
        assert finished.result(60).status == "Completed"
        waiting = runner.submit("moves", delay=3600)
    cloaca.DatabaseAdmin(new).create_tenant(cloaca.TenantConfig("acme", f"{user}_2"))
    dump = ["pg_dump", "--data-only", "--schema=acme", "--exclude-table=acme.cloacina_migrations"]
    copied = subprocess.run([*dump, old], check=True, capture_output=True, text=True)
    restore = ["psql", "--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1", new]
    subprocess.run(restore, check=True, input=copied.stdout, text=True, capture_output=True)
    psql(new, "UPDATE acme.cloacina_tasks SET ready_at = 1 WHERE ready_at IS NOT NULL")
    with cloaca.DefaultRunner(new, schema="acme") as runner:
        assert runner.get_execution(finished.id).final_context["arrived"] is True
        assert runner.get_handle(waiting.id).result(60).status == "Completed"
    cloaca.DatabaseAdmin(old).remove_tenant("acme", user)
    cloaca.DatabaseAdmin(new).remove_tenant("acme", f"{user}_2")


def test_a_tenant_is_restored_as_the_guide_says(databases, tmp_path):
    user = f"u_{uuid.uuid4().hex[:12]}"
    with cloaca.WorkflowBuilder("restored"):

        @cloaca.task
        def work(context):
            context["done"] = True

    admin = cloaca.DatabaseAdmin(databases[0])
    made = admin.create_tenant(cloaca.TenantConfig("acme", user))
    with cloaca.DefaultRunner(made.connection_string) as runner:
        kept = runner.execute("restored")
    dump = tmp_path / "acme.dump"
    backup = ["pg_dump", "--schema=acme", "--format=custom", f"--file={dump}", databases[0]]
    subprocess.run(backup, check=True)
    with cloaca.DefaultRunner(made.connection_string) as runner:
        lost = runner.execute("restored")
    restore = ["pg_restore", "--clean", "--schema=acme", f"--dbname={databases[0]}", str(dump)]
    subprocess.run(restore, check=True)
    with cloaca.DefaultRunner(made.connection_string) as runner:
        assert runner.get_execution(kept.execution_id).status == "Completed"
        with pytest.raises(cloaca.CloacaException, match="no execution"):
            runner.get_execution(lost.execution_id)
        assert runner.execute("restored").status == "Completed"
    admin.remove_tenant("acme", user)
