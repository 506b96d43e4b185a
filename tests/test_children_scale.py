"""Parents that wait for their children hold neither memory nor a worker (semantics M1)."""

from __future__ import annotations

import os

import cloaca
from processes import PREAMBLE

#: The number of waiting parents, each with one waiting child.
COUNT = int(os.environ.get("CLOACA_TEST_WAITS", "2000"))

PARENTS = (
    PREAMBLE
    + """
def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

with cloaca.WorkflowBuilder("held-inner"):
    cloaca.wait("come", wait_for=cloaca.signal("come"))

with cloaca.WorkflowBuilder("held-node"):
    cloaca.child("inner", workflow="held-inner")

@cloaca.workflow
def held_code(handle):
    return handle.run("inner", "held-inner")

with cloaca.WorkflowBuilder("held-beside"):
    @cloaca.task
    def beside(context):
        context["done"] = True

def waiting(runner):
    found, cursor = 0, None
    while True:
        page = runner.waits(limit=1000, cursor=cursor)
        found += len(page)
        cursor = page.next_cursor
        if cursor is None:
            return found

count = int(sys.argv[2])
config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
with cloaca.DefaultRunner(sys.argv[1], config) as runner:
    def submit():
        runner.submit_many([(name, None) for name in ("held-node", "held_code")] * 250)
    submit()
    while waiting(runner) < 500:
        time.sleep(0.3)
    before = resident()
    for _ in range(1, count // 500):
        submit()
    while waiting(runner) < count:
        time.sleep(0.3)
    grown = resident() - before
    assert runner.execute("held-beside").final_context["done"]
    print(grown)

with cloaca.DefaultRunner(sys.argv[1], config) as runner:
    runner.send("come")
    runner.wait_until_idle(timeout=3000)
    counts = runner.counts()
    print({status: count.value for status, count in counts.items() if count.value})
"""
)


def test_m1_waiting_parents_hold_no_memory_and_survive_a_restart(database, script):
    out, errors = script(PARENTS, database, str(COUNT)).communicate(timeout=3000)
    grown, counts = out.splitlines()
    print(f"{COUNT} parents: {int(grown) / 1e6:.1f} MB; then {counts}; {errors}")
    # A parent and its child would take several kilobytes if they were kept in memory.
    assert int(grown) < 16_000_000 + COUNT * 200
    with cloaca.DefaultRunner(database, start=False) as client:
        open_now = client.list_executions(status=["Pending", "Running"], children=True)
        assert open_now.items == []
        assert client.list_executions(status="Failed", children=True).items == []
