"""Lines that mypy must refuse.

If mypy accepts a line, it reports the line's `type: ignore` comment as unused, and `make check`
fails.
"""

from __future__ import annotations

import cloaca


@cloaca.task(retires=3)  # type: ignore[call-overload,untyped-decorator]
def unknown_option(context: cloaca.Context) -> None: ...


@cloaca.task(retry_attempts="3")  # type: ignore[call-overload,untyped-decorator]
def option_of_a_wrong_type(context: cloaca.Context) -> None: ...


@cloaca.task(on_success=lambda: None)  # type: ignore[arg-type,misc]
def callback_that_takes_nothing(context: cloaca.Context) -> None: ...


@cloaca.task(dependencies=[1])  # type: ignore[list-item]
def dependency_that_is_a_number(context: cloaca.Context) -> None: ...


@cloaca.task
def load(context: cloaca.Context) -> None: ...


load()  # type: ignore[call-arg]
load("context")  # type: ignore[arg-type]
cloaca.task("load")  # type: ignore[call-overload]
cloaca.external_task()  # type: ignore[call-arg]
cloaca.WorkflowBuilder(3)  # type: ignore[arg-type]
cloaca.WorkflowBuilder("w").tag("a", 1)  # type: ignore[arg-type]
cloaca.WorkflowBuilder("w").add_task(3)  # type: ignore[arg-type]
cloaca.all_of(3)  # type: ignore[call-overload]
cloaca.Context()[3] = 1  # type: ignore[index]
cloaca.DefaultRunnerConfig(max_concurrent_tasks="4")  # type: ignore[arg-type]
cloaca.DefaultRunnerConfig(max_tasks=4)  # type: ignore[call-arg]
cloaca.DefaultRunnerConfig().lease_ttl = "20"  # type: ignore[assignment]
cloaca.DefaultRunner("x", {"max_concurrent_tasks": 4})  # type: ignore[arg-type]
cloaca.RetryPolicy(max_attempts=None)  # type: ignore[arg-type]
cloaca.RetryPolicy().max_attempts = 5  # type: ignore[misc]


def use(runner: cloaca.DefaultRunner, result: cloaca.WorkflowResult) -> None:
    runner.execute("w", context=3)  # type: ignore[arg-type]
    runner.execute("w", None, 5)  # type: ignore[call-arg]
    runner.submit("w", timeout=[5])  # type: ignore[arg-type]
    print(result.stauts)  # type: ignore[attr-defined]
    print(result.tasks["a"].error.message)  # type: ignore[union-attr]


async def use_async(runner: cloaca.DefaultRunner) -> str:
    return await runner.execute_async("w")  # type: ignore[return-value]
