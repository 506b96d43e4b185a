"""Races between two runners and two clients, each in its own process, for waits and steps.

The tests check semantics L5, L7, L11, T2 and T8. `CLOACA_TEST_RACES` sets the number of races on
each database; `make long` runs 10,000.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import cloaca
from conftest import Script
from processes import PREAMBLE, Ledger, suspend, until

#: The total number of races on each database, for all kinds of races.
RACES = int(os.environ.get("CLOACA_TEST_RACES", "200"))
#: The number of executions that race at the same time.
GROUP = 50
#: The possible timeouts of waits in a race with a timeout, in milliseconds.
TIMEOUTS = (25, 50, 100, 200, 400, 800, 1600)

COMMON = (
    PREAMBLE
    + """
import asyncio, json, logging, mmap, random

database, role, rounds, GROUP = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
TIMEOUTS = json.loads(sys.argv[5])
clients = ("one", "two")

def names(race, group):
    return [f"{race}-{group}-{number}" for number in range(GROUP)]

class Notes(logging.Handler):
    # Notes the lines of the log, except lines about timeouts, which are expected.
    def emit(self, record):
        if "WaitTimeoutError" not in record.getMessage():
            note("log", role, record.getMessage())

logging.getLogger("cloaca").addHandler(Notes())

class Meeting:
    # A barrier for the two clients.

    def __init__(self):
        with open("meet", "r+b") as file:
            self.flags = mmap.mmap(file.fileno(), 0)
        self.next = 0

    def __call__(self):
        mine = clients.index(role)
        self.flags[2 * self.next + mine] = 1
        while not self.flags[2 * self.next + 1 - mine]:
            time.sleep(0)
        self.next += 1

def note_json(kind, **values):
    note(kind, json.dumps(values, separators=(",", ":")))

ever = cloaca.signal("go", key="key", since="ever")

with cloaca.WorkflowBuilder("waits_at_once", output="go"):
    cloaca.wait("go", wait_for=ever)

with cloaca.WorkflowBuilder("waits_after_a_task", output="go"):
    @cloaca.task
    def first(context):
        pass

    cloaca.wait("go", wait_for=ever, dependencies=[first])

@cloaca.workflow(input={"key": str})
def waits_in_code(key, handle):
    return handle.wait("go", cloaca.signal("go", key=key, since="ever"))

for span in TIMEOUTS:
    with cloaca.WorkflowBuilder(f"waits_{span}", output="go"):
        cloaca.wait("go", wait_for=cloaca.signal("go", key="key"), timeout=span / 1000)

with cloaca.WorkflowBuilder("decides", output="release"):
    cloaca.approval("release", on_reject="continue")

async def call(number, step, attempt):
    token = random.randrange(2**40)
    note_json("called", number=number, step=step, attempt=attempt, token=token)
    await asyncio.sleep(random.uniform(0, 0.4))
    return token

@cloaca.workflow(input={"number": int}, retry_attempts=1)
async def leases(number, handle):
    values = []
    for step in range(4):
        attempt = handle.attempt
        values.append(await handle.step(f"s{step}", call, number, step, attempt))
        note_json("got", number=number, step=step, attempt=attempt, token=values[-1])
    return values
"""
)

RUNNER = (
    COMMON
    + """
lease = float(sys.argv[6])
config = cloaca.DefaultRunnerConfig(
    lease_ttl=lease,
    heartbeat_interval=lease / 4,
    max_rescues=1000,
    max_concurrent_async_tasks=GROUP,
)
with cloaca.DefaultRunner(database, config) as runner:
    note("ready")
    wait_for("stop")
"""
)

# A client. Its runner is not started, so it only submits executions, sends signals and decides
# approvals.
CLIENT = (
    COMMON
    + """
def register(group):
    # One client submits executions while the other client sends their signals.
    keys = names("register", group)
    kinds = ("waits_at_once", "waits_after_a_task", "waits_in_code")
    meet()
    if role == clients[group % 2]:
        for first in range(0, GROUP, 10):
            some = range(first, min(first + 10, GROUP))
            wanted = [(kinds[number % 3], {"key": keys[number]}) for number in some]
            for number, handle in zip(some, runner.submit_many(wanted)):
                note_json("registered", id=handle.id, key=keys[number])
    else:
        time.sleep(random.uniform(0, lead))
        for key in keys:
            seq = runner.send("go", key, key=key)
            note_json("sent", key=key, seq=seq)
    meet()

def run_out(group):
    # Both clients send signals around the time at which the waits time out.
    global lead, level
    keys = names("timeout", group)
    if role == "one":
        handles = runner.submit_many(
            (f"waits_{TIMEOUTS[level]}", {"key": key}) for key in keys
        )
        with open("ids", "w") as file:
            json.dump([level, [handle.id for handle in handles]], file)
    meet()
    begin = time.monotonic()
    with open("ids") as file:
        level, ids = json.load(file)
    half = clients.index(role)
    time.sleep(max(0, TIMEOUTS[level] / 1000 - lead * random.uniform(0.2, 0.8)))
    start, early = time.monotonic(), 0
    for id, key in list(zip(ids, keys))[half::2]:
        seq = runner.send("go", key, key=key)
        acknowledged = time.time()
        status = runner.get_execution(id).tasks["go"].status
        early += status != "Failed"
        note_json("raced", id=id, key=key, seq=seq, at=acknowledged, status=status)
    lead = min(time.monotonic() - start, 2)
    count = (GROUP + 1 - half) // 2
    if early < count / 4:
        level = min(level + 1, len(TIMEOUTS) - 1)
    elif early > count * 3 / 4:
        level = max(level - 1, 0)
    meet()

def decide(group):
    # Both clients decide the same approvals.
    if role == "one":
        handles = runner.submit_many(("decides", {"key": key}) for key in names("decide", group))
        with open("ids", "w") as file:
            json.dump([handle.id for handle in handles], file)
    meet()
    with open("ids") as file:
        ids = json.load(file)
    for number, id in enumerate(ids):
        meet()
        try:
            if role == "two" and number % 2:
                runner.reject(id, "release", by=role)
            else:
                runner.approve(id, "release", by=role)
            note_json("decided", id=id, by=role)
        except cloaca.AlreadyDecidedError as error:
            note_json("refused", id=id, by=role, error=str(error))
    meet()

meet, lead, level = Meeting(), 0.05, 2
with cloaca.DefaultRunner(database, start=False) as runner:
    for race in (register, run_out, decide):
        for group in range(rounds):
            race(group)
        note("finished", race.__name__)
"""
)


def records(ledger: Ledger, kind: str) -> list[dict[str, object]]:
    """Returns the values that the processes noted under the word `kind`."""
    return [json.loads(" ".join(words)) for words in ledger.lines(kind)]


def groups(share: float) -> int:
    """Returns the number of groups for a kind of race that makes up `share` of all races."""
    return max(1, round(RACES * share / GROUP))


#: The number of groups of each kind of race in `CLIENT`. There are three kinds, each with 30 % of
#: all races.
ROUNDS = groups(0.3)
ARGUMENTS = (str(ROUNDS), str(GROUP), json.dumps(TIMEOUTS))


@pytest.fixture
def runners(
    database: str, script: Script, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[list[subprocess.Popen[str]]]:
    """Two runners with leases of `request.param` seconds. They must stop without any output."""
    arguments = (*ARGUMENTS, str(request.param))
    started = [script(RUNNER, database, name, *arguments) for name in ("first", "second")]
    Ledger(tmp_path).wait("ready", 2)
    yield started
    (tmp_path / "stop").touch()
    for process in started:
        assert process.communicate(timeout=60) == ("", "")


@pytest.mark.usefixtures("runners")
@pytest.mark.parametrize("runners", [15.0], indirect=True, ids=["long lease"])
def test_l5_races_of_processes_lose_no_signal_or_decision(
    database: str, script: Script, tmp_path: Path
) -> None:
    ledger, begun = Ledger(tmp_path), time.monotonic()
    (tmp_path / "meet").write_bytes(bytes(2 * ROUNDS * (2 + 2 + 2 + GROUP)))
    clients = [script(CLIENT, database, name, *ARGUMENTS) for name in ("one", "two")]
    for client in clients:
        assert client.communicate(timeout=3000) == ("", "")
    assert ledger.lines("log") == []
    with cloaca.DefaultRunner(database, start=False) as runner:
        registered = check_registrations(runner, ledger)
        won, lost = check_timeouts(runner, ledger)
        decided = check_decisions(runner, ledger)
        for kind in ("signal", "timer", "approval", "cancel"):
            assert not len(runner.waits(kind=kind))
    passed = time.monotonic() - begun
    print(f"{registered} registrations; {won} signals before and {lost} after a timeout;", end=" ")
    print(f"{sum(decided.values())} decisions, {decided}; {passed:.1f} s")
    if RACES >= 5_000:
        assert min(won, lost, *decided.values()) > 0
        assert len(decided) == 2


def check_registrations(runner: cloaca.DefaultRunner, ledger: Ledger) -> int:
    """Checks that every wait took the signal with its key; returns the number of waits."""
    sent = {record["key"]: record["seq"] for record in records(ledger, "sent")}
    registered = records(ledger, "registered")
    assert sorted(sent) == sorted(record["key"] for record in registered)
    for record in registered:
        id, key = str(record["id"]), record["key"]
        result = runner.get_handle(id).result(timeout=60)
        assert (result.status, result.output) == ("Completed", key), id
        (signalled,) = (event for event in runner.events(id) if event.type == "signalled")
        assert signalled.data["seq"] == sent[key]
    return len(registered)


def check_timeouts(runner: cloaca.DefaultRunner, ledger: Ledger) -> tuple[int, int]:
    """Checks each race with a timeout; returns how many signals and how many timeouts won."""
    won = lost = 0
    for record in records(ledger, "raced"):
        id = str(record["id"])
        result = runner.get_handle(id).result(timeout=60)
        events = {event.type: event for event in runner.events(id)}
        if result.status == "Completed":
            won += 1
            assert result.output == record["key"]
            assert events["signalled"].data["seq"] == record["seq"]
            assert "wait_timed_out" not in events
            continue
        lost += 1
        assert result.tasks["go"].error is not None
        assert result.tasks["go"].error.type == "WaitTimeoutError"
        assert "signalled" not in events
        # Right after the signal was acknowledged, the client saw the recorded timeout. If the wait
        # had still been open then, the acknowledged signal would have to win.
        assert record["status"] == "Failed", f"{id} lost the signal {record}"
        # The wait timed out before the signal was acknowledged.
        assert events["wait_timed_out"].time.timestamp() <= record["at"], f"{id}: {record}"
    return won, lost


def check_decisions(runner: cloaca.DefaultRunner, ledger: Ledger) -> Counter[str]:
    """Checks that each approval was decided once; returns how many each client decided."""
    decided = {str(record["id"]): str(record["by"]) for record in records(ledger, "decided")}
    refused = {str(record["id"]): record for record in records(ledger, "refused")}
    assert decided.keys() == refused.keys()
    assert len(records(ledger, "decided")) == len(records(ledger, "refused")) == len(decided)
    for id, by in decided.items():
        assert refused[id]["by"] != by
        result = runner.get_handle(id).result(timeout=60)
        assert result.status == "Completed"
        output = result.output
        assert output["by"] == by
        verb = "approved" if output["approved"] else "rejected"
        assert f"was already {verb} by {by} at 20" in str(refused[id]["error"])
        events = [event for event in runner.events(id) if event.type == "decided"]
        assert [event.data["by"] for event in events] == [by]
    return Counter(decided.values())


@pytest.mark.parametrize("runners", [1.0], indirect=True, ids=["short lease"])
def test_t8_runner_that_lost_its_lease_records_no_step(
    database: str, tmp_path: Path, runners: list[subprocess.Popen[str]]
) -> None:
    ledger, begun = Ledger(tmp_path), time.monotonic()
    wanted, rng = RACES // 10, random.Random(8)
    submitted, races, stops = 0, 0, 0
    ids: dict[int, str] = {}
    with cloaca.DefaultRunner(database, start=False) as runner:
        while races < wanted:
            numbers = range(submitted, submitted + 2 * GROUP)
            submitted += 2 * GROUP
            handles = runner.submit_many(("leases", {"number": number}) for number in numbers)
            ids.update(zip(numbers, (handle.id for handle in handles), strict=True))
            called = len(ledger.lines("called"))
            until("steps run", lambda called=called: len(ledger.lines("called")) >= called + GROUP)
            victim = rng.choice(runners)
            suspend(victim, database)
            stops += 1
            # The lease ends after 1 s. The runner continues before or after its tasks are rescued.
            time.sleep(rng.uniform(0.9, 2.0))
            victim.send_signal(signal.SIGCONT)
            for handle in handles:
                assert handle.result(timeout=120).status == "Completed"
                types = [event.type for event in handle.events()]
                races += "task_rescued" in types
        check_steps(runner, ledger, ids)
    passed = time.monotonic() - begun
    print(f"{races} lost leases of {submitted} executions in {stops} stops, {passed:.1f} s")


def check_steps(runner: cloaca.DefaultRunner, ledger: Ledger, ids: dict[int, str]) -> None:
    """Checks that each step was recorded once, and that no later attempt called it again."""
    got: dict[tuple[object, object], set[object]] = {}
    for record in records(ledger, "got"):
        got.setdefault((record["number"], record["step"]), set()).add(record["token"])
    called = {record["token"]: record for record in records(ledger, "called")}
    attempts: dict[tuple[object, object], list[object]] = {}
    for record in called.values():
        attempts.setdefault((record["number"], record["step"]), []).append(record["attempt"])
    for number, id in ids.items():
        result = runner.get_execution(id)
        recorded = [event for event in runner.events(id) if event.type == "step_recorded"]
        assert [event.data["key"] for event in recorded] == ["s0", "s1", "s2", "s3"]
        assert [event.data["value"] for event in recorded] == result.output
        for step, event in enumerate(recorded):
            # Every attempt that continued after the step had the recorded value.
            assert got[number, step] == {event.data["value"]}
            assert called[event.data["value"]]["attempt"] == event.attempt
            assert max(attempts[number, step]) == event.attempt  # type: ignore[type-var]
