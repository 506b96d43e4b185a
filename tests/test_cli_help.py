"""The command line: help, completion and the reference page."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

import cloaca
from cloaca._cli._commands import COMMANDS, help_text
from cloaca._cli._root import cli
from cloaca._cli._tree import draw


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_its_options(name):
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    summary = COMMANDS[name][1]
    assert summary.endswith(".")
    for part in command.commands.values() if isinstance(command, click.Group) else [command]:
        assert part.help
        options = {option for parameter in part.params for option in parameter.opts}
        # `completion` and `check` read no database.
        if name not in {"completion", "check"}:
            assert {"-c", "--database", "--json"} <= options


def test_help_text_without_click_equals_the_help_of_click():
    assert help_text() == cli.get_help(
        click.Context(cli, info_name="cloaca", terminal_width=80, **cli.context_settings)
    )


def test_the_reference_page_is_current():
    script = Path(__file__).parent.parent / "scripts" / "cli_reference.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_and_version_are_printed(bare):
    assert bare.run("--help")[0] == help_text() + "\n"
    assert "Commands:" in bare.run(status=2)[1]
    assert bare.run("--version")[0] == f"cloaca {cloaca.__version__}\n"
    assert "Usage: cloaca run [OPTIONS] MODULE:WORKFLOW" in bare.run("run", "--help")[0]


def test_help_uses_at_most_100_ms_of_cpu_time(bare):
    def processor_seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        bare.run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    # Only the fastest round counts, because a busy machine makes some rounds slower.
    times = [processor_seconds()]
    while min(times) > 0.1 and len(times) < 30:
        times.append(processor_seconds())
    assert min(times) <= 0.1


def test_help_loads_neither_click_nor_rich(bare):
    code = "import sys; from cloaca._cli import main; main(['--help']); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"click", "rich"} & set(loaded)


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion_suggests_a_command(bare, shell_name):
    output, _ = bare.run("completion", shell_name)
    assert "_CLOACA_COMPLETE" in output
    bare.environment |= {
        "_CLOACA_COMPLETE": f"{shell_name}_complete",
        "COMP_WORDS": "cloaca wor",
        "COMP_CWORD": "wor" if shell_name == "fish" else "1",
    }
    output, _ = bare.run()
    assert "worker" in output


def test_a_tree_names_every_task_once():
    dependencies = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": []}
    assert draw(list(dependencies), dependencies) == ("a\n├─ b\n└─ c\n   └─ d  (and after b)\ne")
    chain = [f"t{number}" for number in range(2000)]
    links = {task: chain[max(index - 1, 0) : index] for index, task in enumerate(chain)}
    assert len(draw(chain, links, is_unicode=False).splitlines()) == 2000
