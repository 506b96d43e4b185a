"""Children end on two runners while a client cancels or retries the parents (M3, M4, M6)."""

from __future__ import annotations

import collections
import contextlib
import os
import random
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloaca
from children_support import (
    ENVIRONMENT,
    FLAGS,
    KINDS,
    count_rows,
    define_parents,
    input_of,
    ordinary_children,
    share_flags,
)
from conftest import Script
from processes import Ledger, until

#: The numbers of races per database: between a child and a cancel, and between a child and a retry.
RACES = int(os.environ.get("CLOACA_TEST_RACES", "60"))
RETRIES = RACES // 2

#: Each child has two flags. The child sets the first one when it is about to end. In the modes
#: `waits` and `fails`, the child waits or fails until the test has set the second one.
WORKER = FLAGS + textwrap.dedent(
    """
    import logging
    from children_support import define_parents

    database, name, mode = sys.argv[1:]
    # Some executions time out or fail on purpose.
    logging.getLogger("cloaca").setLevel(logging.CRITICAL)

    def body(n):
        is_allowed = lambda: flags[len(flags) // 2 + n]
        if mode == "fails" and not is_allowed():
            raise ValueError("not yet")
        while mode == "waits" and not is_allowed():
            time.sleep(0.001)
        flags[n] = 1

    options = {"on_parent_end": "abandon"} if mode == "waits" else {}
    define_parents(name, body, note, **options)
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=24)
    with cloaca.DefaultRunner(database, config) as runner:
        note("ready", os.getpid())
        wait_for("stop")
    """
)


class Gap:
    """A delay before the client acts. It adapts so that the client and the child both win often."""

    def __init__(self, seed: int) -> None:
        self.seconds = 0.001
        self.random = random.Random(seed)

    def wait(self) -> None:
        """Waits about as long as the gap, in a busy loop, because a sleep would be too coarse."""
        end = time.perf_counter() + self.seconds * self.random.uniform(0.5, 1.5)
        while time.perf_counter() < end:
            pass

    def learn(self, *, was_early: bool) -> None:
        """Makes the gap longer if the client was early, and shorter if it was late."""
        self.seconds *= 1.25 if was_early else 0.8
        self.seconds = min(max(self.seconds, 1e-6), 0.05)


def spin(what: str, is_true: Callable[[], object]) -> None:
    """Waits for a condition, and returns within a fraction of a millisecond after it is true."""
    end = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < end, f"did not happen: {what}"
        time.sleep(0.0001)  # Leaves the processor to the runners.


@contextlib.contextmanager
def two_runners(
    script: Script, database: str, name: str, mode: str, folder: Path
) -> Iterator[cloaca.DefaultRunner]:
    """Starts two runner processes, yields a client, and finally checks that nothing is open."""
    processes = [script(WORKER, database, name, mode, **ENVIRONMENT) for _ in range(2)]
    Ledger(folder).wait("ready", 2)
    with cloaca.DefaultRunner(database, start=False) as client:
        yield client
        client.wait_until_idle(timeout=60)
        for table in ("cloacina_inbox", "cloacina_waits"):
            until(f"{table} is empty", lambda table=table: count_rows(database, table) == 0)
        open_now = client.list_executions(status=["Pending", "Running"], children=True)
        assert open_now.items == []
    (folder / "stop").touch()
    for process in processes:
        assert process.communicate(timeout=60) == ("", "")


def lines_of(ledger: Ledger, first: str) -> dict[int, list[list[str]]]:
    """Returns the lines that begin with the word `first`, by the number that follows it."""
    found: dict[int, list[list[str]]] = collections.defaultdict(list)
    for number, *words in ledger.lines(first):
        found[int(number)].append(words)
    return found


def test_m4_either_the_end_of_a_child_or_a_cancel_wins(database, script, tmp_path):
    name = "cancel-race"
    define_parents(name)
    flags = share_flags(tmp_path, 2 * RACES)
    gaps = {kind: Gap(seed) for seed, kind in enumerate(KINDS)}
    races = []
    with two_runners(script, database, name, "", tmp_path) as client:
        for n in range(RACES):
            kind = KINDS[n % len(KINDS)]
            handle = client.submit(f"{name}-{kind}", input_of(n))
            spin(f"child {n} is about to end", lambda n=n: flags[n])
            gaps[kind].wait()
            was_open = handle.cancel()
            gaps[kind].learn(was_early=was_open)
            races.append((handle, was_open))
        results = [handle.result(timeout=60) for handle, _ in races]
        client.wait_until_idle(timeout=60)
        children = [ordinary_children(client, result.execution_id) for result in results]
    ledger = Ledger(tmp_path)
    after, finish = lines_of(ledger, "after"), lines_of(ledger, "finish")
    for n, (result, (_, was_open), started) in enumerate(
        zip(results, races, children, strict=True)
    ):
        assert result.status == ("Cancelled" if was_open else "Completed")
        assert result.final is not None
        assert result.final.status == "Completed"
        assert finish[n] == [["Cancelled" if was_open else "None"]]
        assert len(started) == 1
        assert started[0].status in ({"Cancelled", "Completed"} if was_open else {"Completed"})
        assert len(after[n]) == 1 if not was_open else len(after[n]) <= 1
    cancels = sum(was_open for _, was_open in races)
    print(f"{cancels} of {RACES} cancels came before the end of the parent")
    assert 0 < cancels < RACES


def retry_until_completed(handle: cloaca.WorkflowHandle, **options: str) -> int:
    """Retries an execution until it completes within its timeout; returns the number of retries."""
    for number in range(1, 30):
        handle.retry(**options)
        result = handle.result(timeout=60)
        if result.status == "Completed":
            return number
        assert "timeout" in (result.error_message or "")
        options = {}
    raise AssertionError("the execution never completed in time")


def test_m6_parent_retried_at_the_end_of_its_child_completes(database, script, tmp_path):
    name = "retry-race"
    define_parents(name, on_parent_end="abandon")
    flags = share_flags(tmp_path, 2 * RETRIES)
    gap = Gap(3)
    ends, results, children, expected = {}, {}, {}, {}
    with two_runners(script, database, name, "waits", tmp_path) as client:
        for first in range(0, RETRIES, 16):
            handles = {
                n: client.submit(f"{name}-{('node', 'map')[n % 2]}", input_of(n), timeout=0.6)
                for n in range(first, min(first + 16, RETRIES))
            }
            for handle in handles.values():
                assert handle.result(timeout=60).status == "Failed"
            for n, handle in handles.items():
                flags[RETRIES + n] = 1
                # On a busy machine, a parent can time out before it has started its child.
                had_child = len(ordinary_children(client, handle.id))
                if had_child:
                    spin(f"child {n} is about to end", lambda n=n: flags[n])
                    gap.wait()
                options = {"from_task": "inner"} if n % 4 >= 2 else {}
                expected[n] = 1 + had_child if options else 1
                ends[n] = 1 + retry_until_completed(handle, **options)
                results[n] = handle.result(timeout=60)
                children[n] = ordinary_children(client, handle.id)
                gap.learn(was_early=children[n][0].status != "Completed")
    ledger = Ledger(tmp_path)
    after, finish = lines_of(ledger, "after"), lines_of(ledger, "finish")
    for n, result in results.items():
        value = result.final_context.get("inner")
        assert (result.of("inner") if n % 2 else [value]) == [n * n]
        assert len(after[n]) >= 1
        assert len(finish[n]) == ends[n]
        assert finish[n][-1] == ["None"]
        # Without `from_task`, the retried node waits for the same child as before.
        assert len(children[n]) == expected[n]
        assert children[n][-1].status == "Completed"
        assert children[n][0].status in {"Completed", "Cancelled"}
    print(f"{RETRIES} parents by number of ends: {collections.Counter(ends.values())}")


def test_m6_parent_and_child_retried_at_the_same_time_complete(database, script, tmp_path):
    name = "both-retried"
    define_parents(name)
    flags = share_flags(tmp_path, 2 * RETRIES)
    gap, accepted = Gap(4), 0
    with two_runners(script, database, name, "fails", tmp_path) as client:
        handles = [
            client.submit(f"{name}-{KINDS[n % len(KINDS)]}", input_of(n)) for n in range(RETRIES)
        ]
        for handle in handles:
            assert handle.result(timeout=60).status == "Failed"
        for n, handle in enumerate(handles):
            (child,) = ordinary_children(client, handle.id)
            flags[RETRIES + n] = 1

            def retry_child(child_id: str = child.execution_id) -> bool:
                gap.wait()
                try:
                    client.retry_execution(child_id)
                except cloaca.WorkflowError:
                    # The parent's retry has already made the child run again.
                    return False
                return True

            with ThreadPoolExecutor(1) as pool:
                retried = pool.submit(retry_child)
                handle.retry()
                accepted += retried.result()
            gap.learn(was_early=retried.result())
        results = [handle.result(timeout=60) for handle in handles]
        client.wait_until_idle(timeout=60)
        children = [ordinary_children(client, handle.id) for handle in handles]
    finish = lines_of(Ledger(tmp_path), "finish")
    for n, (result, started) in enumerate(zip(results, children, strict=True)):
        assert result.status == "Completed"
        assert [child.status for child in started] == ["Completed"]
        assert finish[n] == [["ChildFailedError"], ["None"]]
    print(f"{accepted} of {RETRIES} children accepted the retry of the client")
    assert accepted > 0
