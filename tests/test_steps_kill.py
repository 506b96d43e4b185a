"""An agent loop that is killed with SIGKILL at every step: recorded steps never run again."""

from __future__ import annotations

import signal
import textwrap

import pytest

import cloaca
from processes import PREAMBLE, Ledger

STEPS = 4

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
    # The step that ran when the process was killed may run twice; a recorded step may not.
    most = 2 if moment == "after" else 1
    assert {name: called.count(name) for name in called} == {
        f"turn-{step}": most for step in range(STEPS)
    }
    with cloaca.DefaultRunner(database) as runner:
        (only,) = runner.list_executions().items
        assert only.final_context["turns"] == [0, 1, 2, 3]
        assert only.tasks["loop"].attempts == STEPS + 1
