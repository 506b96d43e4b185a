"""The commands `run` and `worker`."""

from __future__ import annotations

import click

from cloaca._cli import INTERRUPTED
from cloaca._cli._filters import timeout_option
from cloaca._cli._input import json_context, usage_errors
from cloaca._cli._interrupt import deferred_interrupt
from cloaca._cli._options import COMMAND_SETTINGS, PRIORITY, Database, database_options
from cloaca._cli._output import (
    exit_with_status,
    json_only_stdout,
    note,
    print_result,
    result_document,
)
from cloaca._values.exceptions import CloacaException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cloaca._cli._reload import Reloader
    from cloaca._core import Context
    from cloaca._runner.config import DefaultRunnerConfig
    from cloaca._runner.runner import DefaultRunner

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("target", metavar="MODULE:WORKFLOW")
@click.option(
    "--context",
    "--input",
    metavar="JSON|@FILE|-",
    callback=json_context,
    help="The initial context: a JSON object, @ and the name of a file, or - for stdin.",
)
@click.option("--key", metavar="KEY", help="Makes the submission idempotent.")
@PRIORITY
@click.option(
    "--timeout",
    metavar="SPAN",
    callback=timeout_option,
    help="Maximum run time, such as 90 (seconds), 5m or 2h.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="NAME=VALUE",
    help="A label to find the execution by; may be given several times.",
)
@database_options
def run(
    database: Database,
    as_json: bool,
    target: str,
    context: Context | None,
    key: str | None,
    priority: int,
    timeout: float | None,
    labels: tuple[str, ...],
) -> None:
    """Run a workflow of a module and wait for its end, with a live bar for each task.

    MODULE is a module's name or the path of its file. WORKFLOW is the workflow's name, or the name
    of a variable with the workflow. Ends with status 1 unless the execution completed.
    """
    from cloaca._cli._filters import pairs
    from cloaca._cli._loading import load, split, workflow_name
    from cloaca._observe.logger import show_failures
    from cloaca._observe.progress_bars import follow, is_shown
    from cloaca._runner.runner import DefaultRunner

    module, name = split(target)
    if name is None:
        raise click.UsageError(
            f"the workflow is missing in '{target}'\nhint: give {module}:WORKFLOW"
        )
    shown = show_failures()
    url = database.url
    with json_only_stdout(as_json) as tell:
        workflow = workflow_name(load(module), name)
        with DefaultRunner(url, schema=database.schema) as runner:
            handle = None
            try:
                with deferred_interrupt() as raise_interrupt:
                    with usage_errors():
                        handle = runner.submit(
                            workflow,
                            context,
                            key=key,
                            priority=priority,
                            timeout=timeout,
                            labels=dict(pairs(labels)) or None,
                        )
                    shows_bars = is_shown() and not as_json
                    result = follow(runner._core, handle.id, raise_interrupt, shows_bars=shows_bars)
            except KeyboardInterrupt:
                if handle is None:
                    raise
                _interrupted(runner, handle.id, module)
                raise click.exceptions.Exit(INTERRUPTED) from None
        if as_json:
            tell(result_document(result))
    # The runner's shutdown has printed all pending log records, so `shown` is complete.
    logged = {task for id, task in shown if id == result.execution_id}
    if not as_json:
        # `exit_with_status` prints the error.
        print_result(result, tells_error=False, logged=logged)
    exit_with_status(result)


def _interrupted(runner: DefaultRunner, id: str, module: str) -> None:
    """Shuts the runner down after Ctrl-C.

    Prints which tasks the shutdown waits for, and how to continue or cancel the execution.
    """
    from cloaca._executions.status import WorkflowStatus
    from cloaca._runner.interruption import fate, is_in_memory, shut_down_unreported, waiting

    running = [
        task.task_id for task in runner.get_execution(id).tasks.values() if task.status == "Running"
    ]
    if running:
        names = ", ".join(f"'{name}'" for name in running[:5])
        more = f" and {len(running) - 5} more" if len(running) > 5 else ""
        tasks = "task" if len(running) == 1 else "tasks"
        note(waiting(runner, f"{tasks} {names}{more}"))
    shut_down_unreported(runner)
    if is_in_memory(runner._core):
        note(f"execution {id} {fate(runner._core, 1)}")
        return
    try:
        status = WorkflowStatus(runner._core.reads.status(id))
    except CloacaException:
        return  # the database does not answer
    if status.is_terminal:
        note(f"execution {id} has ended: {status}\nhint: cloaca show {id}")
    else:
        note(
            f"execution {id} is {status}: it {fate(runner._core, 1)} that has its workflow\n"
            f"hint: continue it with `cloaca worker {module}`, or end it with `cloaca cancel {id}`"
        )


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("targets", metavar="MODULE[:ATTRIBUTE]...", nargs=-1, required=True)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="Maximum number of functions that run at once.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Serve /metrics on this local port; 0 picks a free one.",
)
@click.option("--capture-logs", is_flag=True, help="Store tasks' log lines with their executions.")
@click.option(
    "--reload", is_flag=True, help="Restart when a loaded source file changes; for development."
)
@click.option(
    "-v", "--verbose", "verbosity", count=True, help="Log at INFO on stderr; -vv at DEBUG."
)
@click.option(
    "--log-level",
    type=click.Choice(_LEVELS, case_sensitive=False),
    help="Log at this level on stderr.",
)
@database_options
def worker(
    database: Database,
    as_json: bool,
    targets: tuple[str, ...],
    concurrency: int | None,
    metrics_port: int | None,
    capture_logs: bool,
    reload: bool,
    verbosity: int,
    log_level: str | None,
) -> None:
    """Run the work submitted to the database until SIGTERM or Ctrl-C.

    Each MODULE is a module that defines workflows, given by its name or the path of its file.
    ATTRIBUTE is one of its workflows, given as for `cloaca run`, or a function that defines
    workflows and is called first. The worker runs all workflows that the modules define.
    After a signal, the worker waits for running tasks; a second signal stops it at once.
    """
    from cloaca._cli._reload import Reloader

    url = database.url
    _log(log_level or (("INFO", "DEBUG")[min(verbosity, 2) - 1] if verbosity else None))
    reloader = Reloader(targets) if reload else None
    with json_only_stdout(as_json) as tell:
        try:
            names = _define(targets)
        except click.ClickException as error:
            if reloader is None:
                raise
            note(f"error: {error.format_message()}")
            reloader.wait()
        else:
            config = _config(concurrency, metrics_port, capture_logs)
            report = tell if as_json else None
            _serve(database.schema, url, config, names, report, reloader)
    if reloader is not None and reloader.changed is not None:
        reloader.restart()


def _define(targets: tuple[str, ...]) -> list[str]:
    """Loads the modules; returns the names of the workflows that they define.

    Raises:
        click.ClickException: A module or its attribute cannot be used, or no module defines a
            workflow.
    """
    from cloaca._cli._loading import define_workflows, load, split
    from cloaca._workflows.registry import registry

    for target in targets:
        module, name = split(target)
        loaded = load(module)
        if name is not None:
            define_workflows(loaded, name)
    names = sorted(workflow.name for workflow in registry.workflows_since(0)[1])
    if not names:
        modules = [f"'{split(target)[0]}'" for target in targets]
        if len(modules) == 1:
            raise click.ClickException(f"module {modules[0]} defines no workflow")
        raise click.ClickException(f"the modules {', '.join(modules)} define no workflow")
    return names


def _serve(
    schema: str | None,
    url: str,
    config: DefaultRunnerConfig,
    names: list[str],
    tell: Callable[[object], None] | None,
    reloader: Reloader | None,
) -> None:
    from cloaca._runner.runner import DefaultRunner
    from cloaca._runner.signals import serve

    with DefaultRunner(url, config, schema=schema) as runner:

        def announce() -> None:
            if reloader is not None:
                reloader.watch(runner)
            if tell is not None:
                tell(
                    {
                        "runner_id": runner._core.runner_id,
                        "database": runner._core.location,
                        "workflows": names,
                        "metrics_url": runner.metrics_url,
                    }
                )
                return
            note(f"serving workflows of {runner._core.location}: {', '.join(names)}")
            if runner.metrics_url:
                note(f"metrics at {runner.metrics_url}")
            if reloader is not None:
                note("the worker restarts when a source file changes")

        # `serve` sets the signal handlers before it calls `announce`, because a program that reads
        # the announcement may send a signal at once.
        serve(runner, announce)


def _log(level: str | None) -> None:
    """Sets the log level, and logs on stderr unless the program has set up a handler."""
    if level is None:
        return
    import logging

    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("cloaca").setLevel(level)


def _config(
    concurrency: int | None, metrics_port: int | None, capture_logs: bool
) -> DefaultRunnerConfig:
    from cloaca._runner.config import DefaultRunnerConfig

    config = DefaultRunnerConfig()
    if concurrency is not None:
        config.max_concurrent_tasks = concurrency
    if metrics_port is not None:
        config.metrics_port = metrics_port
    if capture_logs:
        config.capture_logs = True
    return config
