"""The command that runs a short benchmark on the user's database."""

from __future__ import annotations

import click

from cloaca._cli._options import COMMAND_SETTINGS, Database, database_options
from cloaca._cli._output import print_json, print_table, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca._runner.runner import DefaultRunner

# Number of chains that are run, one after another.
_CHAINS = 100
# Default number of one-task executions that are submitted at once.
_SINGLES = 2_000


@click.command(context_settings=COMMAND_SETTINGS)
@click.option(
    "--executions",
    type=click.IntRange(10, 1_000_000),
    default=_SINGLES,
    show_default=True,
    metavar="N",
    help="Number of executions submitted at once.",
)
@database_options
def bench(database: Database, as_json: bool, executions: int) -> None:
    """Measure the throughput of a database, with tasks that do nothing. Every result is durable.

    The benchmark runs the workflows `cloaca.bench.chain` and `cloaca.bench.single`. Their
    executions stay in the database until they are pruned.
    """
    from cloaca._runner.runner import DefaultRunner

    _define()
    with DefaultRunner(database.url, schema=database.schema) as runner:
        latency = _chains(runner)
        rate = _singles(runner, executions)
        location = runner._core.location
    if as_json:
        print_json(
            {
                "database": location,
                "chain_of_3_p50_ms": latency[0],
                "chain_of_3_p99_ms": latency[1],
                "executions_per_second": rate,
                "executions": executions,
            }
        )
        return
    say(location)
    print_table(
        ("what", "figure"),
        [
            ["a chain of 3 tasks, alone, median", f"{latency[0]:.2f} ms"],
            ["a chain of 3 tasks, alone, 99th percentile", f"{latency[1]:.2f} ms"],
            [f"{executions} one-task executions at once", f"{rate:,.0f} /s"],
        ],
    )


def _define() -> None:
    from cloaca._core import Context
    from cloaca._workflows.builder import WorkflowBuilder
    from cloaca._workflows.task import task

    def nothing(context: Context) -> None:
        pass

    with WorkflowBuilder("cloaca.bench.single") as builder:
        builder.add_task(task(id="only")(nothing))
    with WorkflowBuilder("cloaca.bench.chain") as builder:
        for id, before in (("one", []), ("two", ["one"]), ("three", ["two"])):

            def link(context: Context) -> None:
                pass

            builder.add_task(task(id=id, dependencies=before)(link))


def _chains(runner: DefaultRunner) -> tuple[float, float]:
    """Runs chains one after another; returns the median and the 99th percentile in milliseconds."""
    from time import perf_counter

    times = []
    for _ in range(_CHAINS):
        begin = perf_counter()
        runner.execute("cloaca.bench.chain").raise_for_status()
        times.append((perf_counter() - begin) * 1000)
    times.sort()
    return times[len(times) // 2], times[len(times) * 99 // 100]


def _singles(runner: DefaultRunner, count: int) -> float:
    """Submits executions at once; returns executions per second, from submission to last result."""
    from time import perf_counter

    begin = perf_counter()
    handles = runner.submit_many(("cloaca.bench.single", None) for _ in range(count))
    for handle in handles:
        handle.result().raise_for_status()
    return count / (perf_counter() - begin)
