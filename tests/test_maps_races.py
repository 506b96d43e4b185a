"""Races on two runners: the last item of a map ends while something else happens (K6).

The other event is the end of another item, or a call that pauses, cancels or retries the execution.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Collection, Iterator
from functools import partial

import pytest

import cloaca
from map_race_support import ROUNDS, Race, offsets, race
from processes import until

#: The indexes of the items of a map, which has as many items as the two processes have workers.
ALL = ["0", "1", "2", "3"]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def races(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Race]:
    folder = tmp_path_factory.mktemp("races")
    database = f"sqlite:///{folder / 'races.db'}"
    if request.param == "postgres":
        server = request.getfixturevalue("server")
        name = f"t{uuid.uuid4().hex}"
        server.sql(f"CREATE DATABASE {name}")
        database = f"{server.url.rpartition('/')[0]}/{name}"
    with race(database, folder) as found:
        yield found
    # Both processes have ended, so the ledger contains all calls.
    for kind in ("success", "failure", "total"):
        assert max(found.counts(kind).values(), default=0) <= 1, kind


def check_end(races: Race, number: int, handle: cloaca.WorkflowHandle) -> None:
    """Checks the results of a completed map, and that each item ran once."""
    result = handle.result(timeout=60)
    assert result.status == "Completed", number
    assert result.of("work") == [10, 20, 30, 40], number
    assert result.of("total") == 100
    assert [index for index, _ in races.items(number)] == ALL, number


def check_ends(races: Race, completed: Collection[int], failed: Collection[int] = ()) -> None:
    """Checks that each of these rounds ended once, and that no map is open.

    Args:
        races: The processes whose ledger is checked.
        completed: The rounds whose maps completed.
        failed: The rounds whose maps failed.
    """
    wanted = {"success": set(completed), "total": set(completed), "failure": set(failed)}
    rounds = {*completed, *failed}
    for kind, numbers in wanted.items():
        # A runner may call the callbacks some time after the execution has ended.
        until(f"calls of {kind}", lambda: numbers <= set(races.counts(kind)))  # noqa: B023
        found = {number: count for number, count in races.counts(kind).items() if number in rounds}
        assert found == dict.fromkeys(numbers, 1), kind
    assert "cloaca_map_items{" not in races.client.metrics()


def test_k6_last_items_on_two_runners_end_a_map_once(races: Race) -> None:
    rounds = []
    for _ in range(ROUNDS):
        number, handle = races.start("race_of_items", 4)
        races.end_items(number)
        check_end(races, number, handle)
        assert {process for _, process in races.items(number)} == {"first", "second"}
        rounds.append(number)
    check_ends(races, rounds)


def test_k7_pause_while_the_last_item_ends_loses_nothing(races: Race) -> None:
    rounds = []
    for offset in offsets(ROUNDS):
        number, handle = races.start("race_of_items", 4)
        races.end_items(number, offset)
        # A call is refused if the execution has already ended.
        with contextlib.suppress(cloaca.WorkflowError):
            handle.pause()
            handle.resume()
        check_end(races, number, handle)
        rounds.append(number)
    check_ends(races, rounds)


def test_k7_cancel_while_the_last_item_ends_has_one_outcome(races: Race) -> None:
    completed = []
    for offset in offsets(ROUNDS):
        number, handle = races.start("race_of_items", 4)
        races.end_items(number, offset)
        if not handle.cancel():
            check_end(races, number, handle)
            completed.append(number)
            continue
        assert handle.result(timeout=60).status == "Cancelled", number
        states = races.states(handle)
        assert set(states) <= {"Completed", "Cancelled"}, number
        assert [index for index, _ in races.items(number)] == ALL, number
        assert races.counts("failure")[number] == 0
        # The execution may be cancelled after its map has ended.
        ends = int(states == ["Completed"] * 4)
        assert races.counts("success")[number] <= ends, number
        assert races.counts("total")[number] <= ends, number
    check_ends(races, completed)


def test_k8_tolerance_is_judged_once_after_the_last_item(races: Race) -> None:
    completed, failed = [], []
    for turn in range(ROUNDS):
        bad = (2, 3) if turn % 2 else (3,)
        number, handle = races.start("race_of_tolerated_items", 4, bad)
        races.end_items(number)
        result = handle.result(timeout=60)
        good = 4 - len(bad)
        assert races.states(handle) == ["Completed"] * good + ["Failed"] * len(bad), number
        assert [index for index, _ in races.items(number)] == ALL, number
        if len(bad) == 1:
            assert result.status == "Completed", number
            assert result.of("total") == 60
            completed.append(number)
        else:
            assert result.status == "Failed", number
            assert "2 of 4 items of 'work' failed" in result.error.message
            failed.append(number)
    check_ends(races, completed, failed)


def is_retried(races: Race, handle: cloaca.WorkflowHandle) -> bool:
    try:
        races.client.retry_execution(handle.id)
    except cloaca.WorkflowError:
        return False
    return True


def test_k10_retry_while_the_last_item_ends_runs_only_failed_items(races: Race) -> None:
    rounds = []
    for turn in range(ROUNDS):
        bad = turn % 4
        number, handle = races.start("race_of_items", 4, bad=(bad,), heals=True)
        races.end_items(number)
        # A retry is refused until the last item has ended.
        until("the execution is retried", partial(is_retried, races, handle))
        result = handle.result(timeout=60)
        assert result.status == "Completed", number
        assert result.of("work") == [10, 20, 30, 40], number
        assert result.of("total") == 100
        runs = [index for index, _ in races.items(number)]
        assert runs == sorted([*ALL, str(bad)]), number
        rounds.append(number)
    until("all failures are known", lambda: set(rounds) <= set(races.counts("failure")))
    assert all(races.counts("failure")[number] == 1 for number in rounds)
    until("all ends are known", lambda: set(rounds) <= set(races.counts("success")))
    assert all(races.counts("success")[number] == 1 for number in rounds)
    assert all(races.counts("total")[number] == 1 for number in rounds)
