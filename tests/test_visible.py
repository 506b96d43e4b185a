"""Control characters in stored text are escaped in terminals, pipes and pages."""

from __future__ import annotations

import json
import logging
import os
import pty
import subprocess
import sys

import pytest

import cloaca

EVIL = "\x1b]52;c;Y2xvYWNh\x07\x1b[2J\x1b[8mhidden\x1b[0m\rover\x9b31mred\x7f\u202etxt"
RAW = ("\x1b]", "\x1b[2J", "\x1b[8m", "\x07", "\x9b", "\x7f", "\u202e", "\rover")
COMMANDS = ("show", "list", "events", "logs", "explain", "watch")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A database with one execution, in which every text that its tasks set has control characters.

    The fixture's value is the database's URL, the execution's id and two HTML pages.
    """
    url = f"sqlite:///{tmp_path_factory.mktemp('evil') / 'evil.db'}"
    builder = cloaca.WorkflowBuilder("evil")
    builder.description(EVIL)
    with builder:

        @cloaca.task(id="raises", retry_attempts=1)
        def raises(context, handle):
            logging.getLogger("app" + EVIL).critical("log %s", EVIL)
            handle.set_progress(1, 2, f"progress {EVIL}")
            raise ValueError(f"error {EVIL}")

        @cloaca.task(id="writes", dependencies=["raises"], trigger_rule="always")
        def writes(context):
            context[f"key {EVIL}"] = f"value {EVIL}"

    config = cloaca.DefaultRunnerConfig(capture_logs=True)
    with cloaca.DefaultRunner(url, config) as runner:
        result = runner.execute("evil")
        pages = [result._repr_html_(), runner.list_executions()._repr_html_()]
    return url, result.execution_id, pages


def on_a_terminal(arguments):
    pid, terminal = pty.fork()
    if pid == 0:
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200"}
        os.execve(sys.executable, [sys.executable, "-m", "cloaca", *arguments], environment)
    parts = []
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.waitpid(pid, 0)
    os.close(terminal)
    return b"".join(parts).decode()


def through_a_pipe(arguments):
    command = [sys.executable, "-m", "cloaca", *arguments]
    done = subprocess.run(command, capture_output=True, check=False)
    return (done.stdout + done.stderr).decode()


@pytest.mark.parametrize("show", [on_a_terminal, through_a_pipe])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_shows_a_raw_control_character(stored, command, show):
    url, id, _ = stored
    shown = show([command, *([] if command == "list" else [id]), "-c", url])
    assert "\\x1b]52" in shown or "\\u001b]52" in shown
    assert not [raw for raw in RAW if raw in shown]


@pytest.mark.parametrize("command", COMMANDS)
def test_json_escapes_control_characters_and_keeps_the_text(stored, command):
    url, id, _ = stored
    shown = through_a_pipe([command, *([] if command == "list" else [id]), "--json", "-c", url])
    assert not [raw for raw in RAW if raw in shown]
    document, _ = json.JSONDecoder().raw_decode(shown)
    if command == "show":
        assert document["error"]["message"] == f"error {EVIL}"
        assert document["final_context"] == {f"key {EVIL}": f"value {EVIL}"}


def test_html_contains_no_control_character(stored):
    for page in stored[2]:
        assert "\\x1b]52" in page
        assert not [raw for raw in RAW if raw in page]
