"""Running workflows from the command line."""

from __future__ import annotations

import click

from cloaca._cli._options import HELP_NAMES, Database, database_options
from cloaca._cli._output import document_alone, leave_by, print_result, result_document, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca._core import Context
    from cloaca._runner.config import DefaultRunnerConfig


def _context(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> Context | None:
    """The JSON object in the text, or in the file that it names."""
    if text is None:
        return None
    from cloaca._core import Context

    place = "the JSON"
    if text.startswith("@"):
        from pathlib import Path

        place = text[1:]
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{place} cannot be read: {error}") from None
    try:
        return Context.from_json(text)
    except ValueError as error:
        raise click.BadParameter(f"{place}: {error}") from None


def _split(target: str) -> tuple[str, str | None]:
    module, _, name = target.partition(":")
    return module, name or None


@click.command(context_settings=HELP_NAMES)
@click.argument("target", metavar="MODULE:WORKFLOW")
@click.option(
    "--context",
    "--input",
    metavar="JSON|@FILE",
    callback=_context,
    help="The initial context: a JSON object, or @ and the name of a file with one.",
)
@click.option("--key", metavar="KEY", help="Makes the submission idempotent.")
@click.option("--priority", type=int, default=0, help="-32768 to 32767, higher first.")
@click.option("--timeout", type=float, metavar="SECONDS", help="The execution's own limit.")
@database_options
def run(
    database: Database,
    as_json: bool,
    target: str,
    context: Context | None,
    key: str | None,
    priority: int,
    timeout: float | None,
) -> None:
    """Run a workflow of a module and wait for its end, with a live bar for each task.

    MODULE is a module's name or the path of its file; WORKFLOW is the workflow's name, or the
    variable that holds it. Ends with status 1 if the execution failed.
    """
    from cloaca._cli._loading import load, workflow_name
    from cloaca._observe.logger import show_on_stderr
    from cloaca._runner.runner import DefaultRunner

    module, name = _split(target)
    show_on_stderr(tells_end=False)  # the command prints the result itself
    if name is None:
        raise click.UsageError("name the workflow too: MODULE:WORKFLOW")
    url = database.url
    with document_alone(as_json) as tell:
        workflow = workflow_name(load(module), name)
        with DefaultRunner(url, schema=database.schema) as runner:
            result = runner.execute(
                workflow,
                context,
                key=key,
                priority=priority,
                timeout=timeout,
                progress=not as_json,
            )
        if as_json:
            tell(result_document(result))
    if not as_json:
        print_result(result)
    leave_by(result)


@click.command(context_settings=HELP_NAMES)
@click.argument("target", metavar="MODULE[:ATTRIBUTE]")
@click.option(
    "--concurrency", type=click.IntRange(1, 100_000), metavar="N", help="Functions at once."
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    metavar="PORT",
    help="Serve /metrics on this local port; 0 picks a free one.",
)
@click.option("--capture-logs", is_flag=True, help="Store tasks' log lines with their executions.")
@database_options
def worker(
    database: Database,
    as_json: bool,
    target: str,
    concurrency: int | None,
    metrics_port: int | None,
    capture_logs: bool,
) -> None:
    """Run the work submitted to the database until SIGTERM or Ctrl-C.

    MODULE defines the workflows: a module's name or the path of its file. ATTRIBUTE, if
    given, is one of its workflows, or a function that defines workflows and is called first. After
    a signal, running tasks may finish; a second signal stops the worker at once.
    """
    from cloaca._cli._loading import attribute, call, load
    from cloaca._runner.runner import DefaultRunner
    from cloaca._runner.signals import serve
    from cloaca._workflows.registry import registry

    module, name = _split(target)
    url = database.url
    with document_alone(as_json) as tell:
        loaded = load(module)
        if name is not None:
            held = attribute(loaded, name)
            if held is None:
                raise click.ClickException(f"module '{module}' has no attribute '{name}'")
            if callable(held):
                call(module, name, held)
        names = sorted(workflow.name for workflow in registry.workflows_since(0)[1])
        if not names:
            raise click.ClickException(f"module '{module}' defines no workflow")
        config = _config(concurrency, metrics_port, capture_logs)
        with DefaultRunner(url, config, schema=database.schema) as runner:

            def announce() -> None:
                if as_json:
                    tell(
                        {
                            "runner_id": runner._core.runner_id,
                            "database": runner._core.location,
                            "workflows": names,
                            "metrics_url": runner.metrics_url,
                        }
                    )
                    return
                say(f"works on {runner._core.location}: {', '.join(names)}", err=True)
                if runner.metrics_url:
                    say(f"metrics at {runner.metrics_url}", err=True)

            # Signal handlers are installed first, because a program that reads this line may send a
            # signal at once.
            serve(runner, announce)


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
