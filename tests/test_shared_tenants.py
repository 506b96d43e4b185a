"""One process serves many tenants with shared workers and connections (semantics H4)."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import cloaca
from cloaca import ConfigurationError, DatabaseAdmin, DefaultRunner, DefaultRunnerConfig
from cloaca._workflows.registry import registry
from tenant_server import TenantServer, psql

TENANTS = 100
#: The number of executions of each tenant. A full test uses 1000.
EXECUTIONS = int(os.environ.get("CLOACA_TEST_TENANT_EXECUTIONS", "20"))
#: Maximum number of database connections of the process, for all tenants together.
CONNECTIONS = 10


@pytest.fixture(scope="module")
def server() -> Iterator[TenantServer]:
    # The server runs as another user, who must be able to enter the folder.
    folder = Path(tempfile.mkdtemp(prefix="cloaca-tenants-"))
    folder.chmod(0o755)
    started = TenantServer(folder, log="none")
    try:
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def url(server: TenantServer) -> str:
    return server.database(f"db_{uuid.uuid4().hex[:12]}")


class Watch:
    """Records the largest number of database sessions while its `with` block runs."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.most = 0
        self.counts = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        import subprocess

        # One session does all the counting, because a new connection for each count would be slow.
        # The query does not count this session.
        command = ["psql", "--no-psqlrc", "-qAt", self.url]
        count = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND backend_type = 'client backend' AND pid <> pg_backend_pid();\n"
        )
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            while not self._stop.wait(0.001):
                client.stdin.write(count)
                client.stdin.flush()
                self.most = max(self.most, int(client.stdout.readline()))
                self.counts += 1
            client.stdin.close()

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def define() -> None:
    with cloaca.WorkflowBuilder("shared"):

        @cloaca.task
        def first(context):
            context["first"] = f"{context['tenant']}-{context['number']}"

        @cloaca.task(dependencies=[first])
        async def second(context):
            context["second"] = context["first"].upper()


# Creating a hundred tenants takes half a minute, and more on a busy machine.
@pytest.mark.timeout(400)
def test_h4_many_tenants_in_one_process_share_workers_and_connections(url):
    define()
    names = [f"tenant_{number:03}" for number in range(TENANTS)]
    settings = DefaultRunnerConfig(db_pool_size=CONNECTIONS, max_concurrent_tasks=4)
    before = threading.active_count()
    with Watch(url) as watch, DefaultRunner(url, settings) as runner:
        tenants = {name: runner.tenant(name) for name in names}
        handles = {
            name: tenant.submit_many(
                ("shared", {"tenant": name, "number": number}) for number in range(EXECUTIONS)
            )
            for name, tenant in tenants.items()
        }
        for name, submitted in handles.items():
            for number, handle in enumerate(submitted):
                final = handle.result(timeout=600).final_context
                assert final["second"] == f"{name}-{number}".upper()
        # The new Python threads are 4 workers, the event loop and the thread that watches it, the
        # supervisor, and the thread of `Watch`.
        assert threading.active_count() <= before + 4 + 2 + 1 + 1
        foreign = handles[names[0]][0].id
        with pytest.raises(cloaca.CloacaException, match="no execution"):
            tenants[names[1]].get_execution(foreign)
    assert watch.counts > 10
    assert watch.most <= CONNECTIONS, f"{watch.most} sessions"
    for name in (names[0], names[-1]):
        count = f"SELECT count(*) FROM {name}.cloacina_executions WHERE state = 3"
        assert psql(url, count) == str(EXECUTIONS)


@pytest.mark.parametrize("connections", [3, 10])
def test_h4_a_flood_of_one_tenant_does_not_starve_another(url, connections):
    done: list[str] = []
    with cloaca.WorkflowBuilder("work"):

        @cloaca.task
        def work(context):
            done.append(context["tenant"])
            time.sleep(0.002)

    settings = DefaultRunnerConfig(db_pool_size=connections, max_concurrent_tasks=2)
    with DefaultRunner(url, settings) as runner:
        loud, quiet = runner.tenant("loud"), runner.tenant("quiet")
        # Priority has no effect between tenants.
        flood = loud.submit_many(
            {"workflow": "work", "context": {"tenant": "loud"}, "priority": 100}
            for _ in range(3000)
        )
        for _ in range(5):
            result = quiet.execute("work", {"tenant": "quiet"})
            assert result.status == "Completed"
        # The quiet tenant finished while more than 500 executions of the loud tenant still waited.
        assert done.count("loud") < 2500
        loud.shutdown(timeout=0)
        assert quiet.execute("work", {"tenant": "quiet"}).status == "Completed"
        with pytest.raises(cloaca.RunnerClosedError):
            loud.execute("work", {"tenant": "loud"})
    assert flood[0].id


def test_h4_tenant_that_stops_mid_task_frees_its_workers(url):
    entered, gate = threading.Barrier(3), threading.Event()
    with cloaca.WorkflowBuilder("held"):

        @cloaca.task(retry_attempts=1)
        def hold(context):
            entered.wait(60)
            gate.wait(60)

    with cloaca.WorkflowBuilder("quick"):
        cloaca.task(id="only")(lambda context: None)

    with DefaultRunner(url, DefaultRunnerConfig(max_concurrent_tasks=2)) as runner:
        ending, staying = runner.tenant("ending"), runner.tenant("staying")
        ending.submit_many([("held", None)] * 2)
        entered.wait(60)  # Waits until both workers run a task.
        ending.shutdown(timeout=0)
        assert staying.execute("quick").status == "Completed"
        gate.set()


def test_h4_schedules_and_triggers_stay_inside_a_tenant(url, monkeypatch):
    # Remove the trigger after the test, so that runners of later tests do not call it.
    monkeypatch.setattr(registry, "_trigger_revisions", {})
    polled: list[str] = []
    with cloaca.WorkflowBuilder("tick"):
        cloaca.task(id="only")(lambda context: None)
    name = f"tenants_{uuid.uuid4().hex[:8]}"

    @cloaca.trigger(on="tick", name=name, poll_interval="100ms")
    def look():
        polled.append(name)
        return cloaca.TriggerResult.skip()

    with DefaultRunner(url) as runner:
        acme, other = runner.tenant("acme"), runner.tenant("other")
        id = acme.register_cron_workflow("tick", "* * * * * *")
        end = time.monotonic() + 60
        while not (rows := acme.get_cron_execution_history(id)):
            assert time.monotonic() < end
            time.sleep(0.02)
        execution = rows[0]["workflow_execution_id"]
        assert acme.get_execution(execution).workflow_name == "tick"
        for stranger in (other, runner):
            assert stranger.list_cron_schedules() == []
            with pytest.raises(cloaca.ScheduleError, match="no schedule"):
                stranger.delete_cron_schedule(id)
            assert execution not in {item.execution_id for item in stranger.list_executions()}
        # Each tenant has its own row of the trigger, so tenants poll it independently.
        acme.set_trigger_enabled(name, False)
        assert acme.get_trigger_schedule(name)["enabled"] is False
        assert other.get_trigger_schedule(name)["enabled"] is True
        before = len(polled)
        while len(polled) < before + 3:
            assert time.monotonic() < end
            time.sleep(0.02)
        acme.delete_cron_schedule(id)
        for each in (other, runner):
            each.set_trigger_enabled(name, False)


def test_h4_tenants_can_have_their_own_credentials(url):
    define()
    admin = DatabaseAdmin(url)
    made = [
        admin.create_tenant(cloaca.TenantConfig(f"own_{n}", f"own_user_{uuid.uuid4().hex[:8]}"))
        for n in range(3)
    ]
    with DefaultRunner(url) as runner:
        for credentials in made:
            tenant = runner.tenant(credentials.schema_name, credentials.connection_string)
            name = credentials.schema_name
            result = tenant.execute("shared", {"tenant": name, "number": 1})
            assert result.final_context["second"] == f"{name}-1".upper()
            user = credentials.username
            count = f"SELECT count(*) > 0 FROM pg_stat_activity WHERE usename = '{user}'"
            assert psql(url, count) == "t"
        with pytest.raises(ConfigurationError, match="other credentials"):
            runner.tenant(made[0].schema_name, made[1].connection_string)
        # The credentials of one tenant do not give access to the schema of another.
        runner.tenant(made[0].schema_name, made[0].connection_string).shutdown()
        with pytest.raises(cloaca.DatabaseError):
            runner.tenant(made[0].schema_name, made[1].connection_string)
        # A separate runner can also use a tenant's credentials.
        with DefaultRunner(
            made[0].connection_string, DefaultRunnerConfig(max_concurrent_tasks=1)
        ) as other:
            handle = other.submit("shared", {"tenant": made[0].schema_name, "number": 2})
            assert handle.result(30).status == "Completed"


def test_h4_timeouts_and_cancellations_reach_the_right_tenant(url):
    entered, leave = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("slow"):

        @cloaca.task(timeout=0.2, retry_attempts=1)
        def slow(context):
            while True:
                time.sleep(0.01)  # Runs until the timeout interrupts the function.

    with cloaca.WorkflowBuilder("endless"):

        @cloaca.task
        async def endless(context):
            entered.set()
            try:
                await asyncio.sleep(600)  # Sleeps until the execution is cancelled.
            finally:
                leave.set()

    define()
    settings = DefaultRunnerConfig(max_concurrent_tasks=2)
    with DefaultRunner(url, settings) as runner:
        a, b = runner.tenant("a"), runner.tenant("b")
        # Four tasks time out on two workers, so the worker of each timed-out task must be replaced.
        for tenant in (a, b, a, b):
            result = tenant.execute("slow")
            assert result.status == "Failed"
            assert "Timeout" in result.error.type
        handle = a.submit("endless")
        assert entered.wait(30)
        handle.cancel()
        assert leave.wait(30)
        assert handle.result(30).status == "Cancelled"
        for tenant, name in ((runner, "parent"), (a, "a"), (b, "b")):
            result = tenant.execute("shared", {"tenant": name, "number": 0})
            assert result.final_context["first"] == f"{name}-0"


def test_h4_running_work_is_kept_when_the_first_tenant_joins(url):
    go = threading.Event()
    with cloaca.WorkflowBuilder("waits"):

        @cloaca.task
        def waits(context):
            assert go.wait(60)
            context["done"] = True

    with DefaultRunner(url, DefaultRunnerConfig(max_concurrent_tasks=2)) as runner:
        handles = runner.submit_many(("waits", None) for _ in range(20))
        tenant = runner.tenant("late")
        own = tenant.submit("waits")
        go.set()
        for handle in [*handles, own]:
            assert handle.result(60).final_context["done"] is True


def test_h4_runner_shutdown_ends_its_tenants(url):
    define()
    runner = DefaultRunner(url)
    tenant = runner.tenant("ends")
    assert tenant.execute("shared", {"tenant": "ends", "number": 0}).status == "Completed"
    runner.shutdown()
    for ended in (runner, tenant):
        assert "closed" in repr(ended)
        with pytest.raises(cloaca.RunnerClosedError):
            ended.submit("shared", {"tenant": "x", "number": 0})
    with pytest.raises(cloaca.CloacaException, match="shut down"):
        runner.tenant("another")
    tenant.shutdown()  # A second call has no effect.
    assert psql(url, "SELECT count(*) FROM ends.cloacina_runners") == "0"


def test_h4_invalid_tenant_is_refused(url, tmp_path):
    with DefaultRunner(f"sqlite:///{tmp_path}/x.db") as runner:
        with pytest.raises(ConfigurationError, match="no schemas") as raised:
            runner.tenant("acme")
        assert "file" in str(raised.value.hint)
    with DefaultRunner(url) as runner:
        for name, text in (("", "cannot be empty"), ("a;b", "alphanumeric"), ("pg_x", "reserved")):
            with pytest.raises(ConfigurationError, match=text):
                runner.tenant(name)
        elsewhere = url.rpartition("/")[0] + "/postgres"
        with pytest.raises(ConfigurationError, match="its own database"):
            runner.tenant("acme", elsewhere)
        tenant = runner.tenant("acme")
        assert runner.tenant("acme") is tenant
        with pytest.raises(ConfigurationError, match="tenants of its own"):
            tenant.tenant("inner")
    with (
        DefaultRunner(url, DefaultRunnerConfig(db_pool_size=2)) as runner,
        pytest.raises(cloaca.DatabaseError, match="raise db_pool_size"),
    ):
        runner.tenant("acme")


@pytest.mark.parametrize("connections", [1, 2, 3, 5])
def test_h4_a_single_runner_respects_its_connection_limit(url, connections):
    define()
    settings = DefaultRunnerConfig(db_pool_size=connections)
    with Watch(url) as watch, DefaultRunner(url, settings) as runner:
        handles = runner.submit_many(("shared", {"tenant": "x", "number": n}) for n in range(50))
        readers = [threading.Thread(target=runner.list_executions) for _ in range(10)]
        for reader in readers:
            reader.start()
        for handle in handles:
            assert handle.result(60).status == "Completed"
        for reader in readers:
            reader.join()
    assert 0 < watch.most <= connections
