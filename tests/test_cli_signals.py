"""The command line: commands about signals, open waits and approvals."""

from __future__ import annotations

import pytest

import cloaca

WAITING = """
import cloaca

with cloaca.WorkflowBuilder("payment"):
    @cloaca.task(wait_for=cloaca.signal("paid", key="order_id"), wait_timeout="30d")
    def book(paid: dict) -> int:
        return paid["amount"]

with cloaca.WorkflowBuilder("release"):
    cloaca.approval(
        "approve", title="Release {version}?", to="ops", timeout="48h", data={"note": str}
    )

    @cloaca.task
    def publish(approve: dict) -> str:
        return approve["by"]
"""


@pytest.fixture
def waiting(shell):
    """The ids of an execution that waits for a signal and of one that waits for an approval."""
    (shell.folder / "waiting.py").write_text(WAITING)
    worker = shell.start("worker", "waiting")
    assert worker.stderr.readline()
    payment = shell.json("submit", "payment", '{"order_id": "o-1"}')["execution_id"]
    release = shell.json("submit", "release", '{"version": "1.0"}')["execution_id"]
    while len(shell.json("waits")["items"]) < 2:
        pass
    return payment, release


def result_of(shell, id):
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        return runner.get_handle(id).result(timeout=60)


def test_waits_are_listed_and_filtered(shell, waiting):
    payment, release = waiting
    signal, approval = shell.json("waits")["items"]
    assert (signal["execution_id"], signal["kind"], signal["key"]) == (payment, "signal", "o-1")
    assert (approval["execution_id"], approval["title"], approval["to"]) == (
        release,
        "Release 1.0?",
        "ops",
    )
    assert [wait["name"] for wait in shell.json("waits", "--kind", "signal")["items"]] == ["paid"]
    assert shell.json("waits", "--workflow", "release")["items"] == [approval]
    assert shell.json("waits", "paid")["items"] == [signal]
    page = shell.json("waits", "--limit", "1")
    assert page["items"] == [signal]
    cursor = page["next_cursor"]
    assert shell.json("waits", "--limit", "1", "--cursor", cursor)["items"] == [approval]
    output, _ = shell.run("waits")
    assert "paid o-1" in output
    assert "Release 1.0?" in output


def test_signal_is_sent_once_and_wakes_the_task(shell, waiting):
    payment, _ = waiting
    arguments = ["send", "paid", '{"amount": 3}', "--key", "o-1", "--id", "evt-1"]
    sent = shell.json(*arguments, "--sender", "stripe")
    assert sent["created"]
    again = shell.json(*arguments)
    assert (again["seq"], again["created"], again["woken"]) == (sent["seq"], False, 0)
    assert shell.run(*arguments)[0] == f"signal {sent['seq']} was already sent\n"
    assert result_of(shell, payment).final_context["book"] == 3
    output, _ = shell.run("send", "paid", '{"amount": 4}', "--key", "other")
    assert output.endswith(" woke 0 tasks\n")


def test_signal_can_be_sent_to_one_execution(shell, waiting):
    output, errors = shell.run("send", "paid", "--to", waiting[0], "--key", "o-1", status=2)
    assert (output, "--key and --to exclude each other" in errors) == ("", True)
    assert shell.json("send", "note", '"hello"', "--to", waiting[0])["created"]
    _, errors = shell.run("send", "note", "--to", "nonsense", status=1)
    assert "nonsense" in errors


def test_text_that_is_not_json_is_refused(shell, waiting):
    _, errors = shell.run("send", "paid", "hello", status=2)
    assert "not valid JSON" in errors
    assert """a string needs quotes: '"hello"'""" in errors


def test_approval_is_given_once(shell, waiting):
    _, release = waiting
    _, errors = shell.run("approve", release, "approve", '{"note": 5}', status=1)
    assert "the data of approval 'approve' is not valid: `note`" in errors
    output, _ = shell.run("approve", release, "approve", '{"note": "ok"}', "--by", "ann")
    assert output == f"{release} approve approved\n"
    assert result_of(shell, release).final_context["publish"] == "ann"
    _, errors = shell.run("approve", release, "approve", "--by", "bob", status=1)
    assert "ann" in errors
    shell.run("reject", release, "approve", "--reason", "late", status=1)


def test_rejection_fails_the_execution(shell, waiting):
    _, release = waiting
    rejected = shell.json("reject", release, "approve", "--by", "ann", "--reason", "too early")
    assert (rejected["execution_id"], rejected["task_id"]) == (release, "approve")
    result = result_of(shell, release)
    assert result.status == "Failed"
    assert "too early" in result.error_message


def test_approve_refuses_a_task_without_an_open_approval(shell, waiting):
    payment, release = waiting
    for id, task in ((payment, "book"), (release, "publish"), (release, "nothing")):
        _, errors = shell.run("approve", id, task, status=1)
        assert errors.startswith("error: ")
        assert task in errors


def test_waits_command_prints_a_note_for_an_empty_database(shell):
    shell.run("db", "migrate")
    output, errors = shell.run("waits")
    assert (output, errors) == ("", "no open wait was found\n")
