"""Recorded steps never run again, even if an agent loop is killed with SIGKILL at every step."""

from __future__ import annotations

import os
import random
import signal
import textwrap
import time
from collections import Counter, defaultdict

import pytest

import cloaca
from processes import PREAMBLE, Ledger, until

#: The number of steps of the agent.
STEPS = 4
#: The number of kills at random moments on each database.
KILLS = int(os.environ.get("CLOACA_TEST_KILLS", "3"))

AGENT = PREAMBLE + textwrap.dedent(
    """
    import signal

    database, victim, moment = sys.argv[1:]

    def die(step, when):
        if victim == step and moment == when:
            os.kill(os.getpid(), signal.SIGKILL)

    def ask_model(turn):
        name = f"turn-{turn}"
        die(name, "before")
        note("called", name)
        die(name, "after")
        return {"tool": "search", "turn": turn}

    with cloaca.WorkflowBuilder("agent"):
        @cloaca.task
        def loop(context, handle):
            turns = []
            for turn in range(4):
                turns.append(handle.step(f"turn-{turn}", ask_model, turn)["turn"])
                die(f"turn-{turn}", "recorded")
            context["turns"] = turns

    with cloaca.DefaultRunner(database) as runner:
        print(runner.submit("agent", key="only").result(timeout=60).status)
    """
)


@pytest.mark.parametrize("moment", ["before", "after", "recorded"])
def test_t2_agent_survives_kill_9_at_every_step(database, script, tmp_path, moment):
    for step in range(STEPS):
        victim = f"turn-{step}"
        first = script(AGENT, database, victim, moment)
        first.communicate(timeout=60)
        assert first.returncode == -signal.SIGKILL
    second = script(AGENT, database, "", "")
    assert second.communicate(timeout=60) == ("Completed\n", "")
    called = [name for (name,) in Ledger(tmp_path).lines("called")]
    # Only the step that was running at the kill runs again. Its first run was noted only if the
    # kill came after the note.
    most = 2 if moment == "after" else 1
    assert {name: called.count(name) for name in called} == {
        f"turn-{step}": most for step in range(STEPS)
    }
    with cloaca.DefaultRunner(database) as runner:
        (only,) = runner.list_executions().items
        assert only.final_context["turns"] == [0, 1, 2, 3]
        assert only.tasks["loop"].attempts == STEPS + 1


AGENTS = PREAMBLE + textwrap.dedent(
    """
    import random

    database, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

    def work(name, agent, key):
        note("called", agent, key)
        time.sleep(random.uniform(0, 0.02))
        return random.randrange(2**40)

    @cloaca.workflow(input={"agent": int})
    def agents(agent, handle):
        values = []

        def step(key):
            values.append(handle.step(key, work, key, agent, key))
            note("got", agent, key, values[-1])

        for turn in range(3):
            step(f"model-{turn}")
            step(f"tool-{turn}")
            if turn == 1:
                handle.sleep("pause", random.uniform(0, 0.05))
        step("answer")
        return values

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=8)
    with cloaca.DefaultRunner(database, config) as runner:
        def submit(numbers):
            return [runner.submit("agents", {"agent": n}, key=str(n)) for n in numbers]

        # First, the agents of the killed process must end, so that no agent is killed twice.
        for handle in submit(range(max(0, first - count), first)):
            assert handle.result(timeout=100).status == "Completed"
        handles = submit(range(first, first + count)) if sys.argv[4] == "more" else []
        for handle in handles:
            handle.result(timeout=100)
    """
)

# The number of agents that each process submits at once, and the number of steps of each agent.
AGENTS_AT_ONCE, AGENT_STEPS = 16, 7


def test_t2_kill_9_at_any_moment_repeats_only_the_running_step(database, script, tmp_path):
    rounds, rng, ledger = KILLS, random.Random(2), Ledger(tmp_path)
    for first in range(0, rounds * AGENTS_AT_ONCE, AGENTS_AT_ONCE):
        process = script(AGENTS, database, str(first), str(AGENTS_AT_ONCE), "more")

        def count_calls(first=first):
            return sum(int(agent) >= first for agent, _ in ledger.lines("called"))

        steps = rng.randrange(1, AGENTS_AT_ONCE * AGENT_STEPS)
        until(f"{steps} steps run", lambda steps=steps, count=count_calls: count() >= steps)
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.communicate(timeout=60)
    last = script(AGENTS, database, str(rounds * AGENTS_AT_ONCE), str(AGENTS_AT_ONCE), "last")
    assert last.communicate(timeout=60) == ("", "")
    calls: dict[str, Counter[str]] = defaultdict(Counter)
    for agent, key in ledger.lines("called"):
        calls[agent][key] += 1
    got: dict[tuple[str, str], set[str]] = defaultdict(set)
    for agent, key, value in ledger.lines("got"):
        got[agent, key].add(value)
    killed = 0
    with cloaca.DefaultRunner(database, start=False) as runner:
        found = runner.list_executions(limit=10_000).items
        for result in found:
            agent = str(result.final_context["agent"])
            events = runner.events(result.execution_id)
            recorded = [event for event in events if event.type == "step_recorded"]
            keys = [event.data["key"] for event in recorded if event.data["kind"] == "step"]
            assert len(set(keys)) == len(keys) == AGENT_STEPS
            assert calls[agent].keys() == set(keys)
            # At most the step that was running when its process was killed ran twice.
            assert sum(calls[agent].values()) <= AGENT_STEPS + 1, calls[agent]
            killed += sum(calls[agent].values()) > AGENT_STEPS
            for key, value in zip(keys, result.final_context["agents"], strict=True):
                assert got[agent, key] == {str(value)}
    assert len(calls) == len(found) == rounds * AGENTS_AT_ONCE
    print(f"{rounds} kills stopped {killed} of {len(calls)} agents during a step")
