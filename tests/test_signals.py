"""Targets, keys, ids and times of signals (semantics L1, L2 and L4)."""

from __future__ import annotations

import struct
import subprocess
import time
import uuid
from pathlib import Path

import pytest

import cloaca
from conftest import Script

HERE = Path(__file__).resolve().parent
#: An hour, in seconds.
HOUR = 3600.0


def test_l2_id_is_unique_over_names_keys_and_targets(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("id_of_signal"):
        cloaca.wait("message", wait_for=cloaca.signal("message"))

    one, two = runner.submit("id_of_signal"), runner.submit("id_of_signal")
    seq = runner.send("message", 1, to=one, id="event-1")
    assert runner.send("message", 1, to=two, id="event-1") == seq
    assert runner.send("other", 1, key="k", id="event-1") == seq
    assert runner.send("message", 2, to=two, id="event-2") > seq
    assert one.result(timeout=60).final_context["message"] == 1
    assert two.result(timeout=60).final_context["message"] == 2


def test_l2_id_stays_in_use_after_its_signal_was_taken(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("taken_signal"):
        cloaca.wait("paid", wait_for=cloaca.signal("paid", key="order"))

    first = runner.submit("taken_signal", {"order": "a"})
    seq = runner.send("paid", 1, key="a", id="taken-1")
    assert first.result(timeout=60).final_context["paid"] == 1
    second = runner.submit("taken_signal", {"order": "a"})
    assert runner.send("paid", 2, key="a", id="taken-1") == seq
    assert runner.send("paid", 3, key="a") > seq
    assert second.result(timeout=60).final_context["paid"] == 3


def test_l1_signal_to_an_execution_that_does_not_exist_is_stored(
    runner: cloaca.DefaultRunner,
) -> None:
    """The execution may be created later, so `send` does not check that it exists."""
    unknown = str(uuid.uuid4())
    seq = runner.send("message", 1, to=unknown, id="unknown-1")
    assert runner.send("message", 1, to=unknown, id="unknown-1") == seq
    with pytest.raises(cloaca.WorkflowNotFoundError, match="'order-1' is not an execution id"):
        runner.send("message", 1, to="order-1")


def test_l1_wait_with_a_key_takes_no_signal_from_the_mailbox(
    runner: cloaca.DefaultRunner,
) -> None:
    with cloaca.WorkflowBuilder("key_or_mailbox"):
        cloaca.wait("paid", wait_for=cloaca.signal("paid", key="order"))

    handle = runner.submit("key_or_mailbox", {"order": "b"})
    runner.send("paid", "mailbox", to=handle)
    runner.send("paid", "without a key")
    runner.send("paid", "key", key="b")
    assert handle.result(timeout=60).final_context["paid"] == "key"


def test_l4_only_a_wait_with_since_ever_takes_earlier_signals(
    runner: cloaca.DefaultRunner,
) -> None:
    with cloaca.WorkflowBuilder("old_signals", output="got"):
        cloaca.wait("ever", wait_for=cloaca.signal("old", key="k", since="ever"))
        cloaca.wait("since", wait_for=cloaca.signal("old", key="k"))

        @cloaca.task
        def got(ever: int, since: int) -> list[int]:
            return [ever, since]

    runner.send("old", 1, key="x")
    handle = runner.submit("old_signals", {"k": "x"})
    runner.send("old", 2, key="x")
    assert handle.result(timeout=60).output == [1, 2]


SENDER = """
import sys, time
import cloaca

with cloaca.DefaultRunner(sys.argv[1], start=False) as runner:
    runner.send("late", 1, key="x")
    runner.send("mail", 2, to=sys.argv[2])
    print(time.time())
"""


def test_l4_waits_take_signals_of_a_sender_with_a_slow_clock(
    database: str, script: Script, tmp_path: Path
) -> None:
    """Neither of the two waits compares the sender's clock with another clock."""
    library, clock = tmp_path / "wall_clock.so", tmp_path / "clock"
    source = str(HERE / "wall_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), source], check=True)
    clock.write_bytes(struct.pack("d", -HOUR))
    with cloaca.WorkflowBuilder("slow_clock", output="got"):
        cloaca.wait("late", wait_for=cloaca.signal("late", key="k", since="ever"))
        cloaca.wait("mail", wait_for=cloaca.signal("mail"))

        @cloaca.task
        def got(late: int, mail: int) -> list[int]:
            return [late, mail]

    with cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("slow_clock", {"k": "x"})
        moved = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(clock)}
        sender = script(SENDER, database, handle.id, **moved)
        out, errors = sender.communicate(timeout=60)
        assert (sender.returncode, errors) == (0, ""), out
        assert handle.result(timeout=60).output == [1, 2]
        assert time.time() - float(out) > HOUR / 2
