"""The HTTP API checks inputs against the declared `input=` of a workflow (semantics J5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

import cloaca
import cloaca.web
from web_support import TOKEN, Answer, call


@dataclass
class Order:
    order_id: str
    tax: float = 0.19
    patience: timedelta = timedelta(hours=1)


@pytest.fixture
def runner(database: str) -> Iterator[cloaca.DefaultRunner]:
    with cloaca.WorkflowBuilder("web_order", input=Order, output="total"):

        @cloaca.task
        def total(order_id: str, tax: float, patience: timedelta) -> str:
            return f"{order_id} {tax} {patience.total_seconds()}"

    with cloaca.DefaultRunner(database) as runner:
        yield runner


@pytest.fixture
def api(runner: cloaca.DefaultRunner, database: str) -> Iterator[str]:
    # The execution stores the definition of the workflow, so that the server can check inputs.
    runner.execute("web_order", {"order_id": "first"})
    with cloaca.web.serve(database, token=TOKEN) as server:
        yield f"{server.url}api/v1/executions"


def submit(api: str, input: object, **more: object) -> Answer:
    return call(api, "POST", {"workflow": "web_order", "input": input, **more})


def output(runner: cloaca.DefaultRunner, answer: Answer) -> Any:
    assert answer.status == 201, answer.body
    return runner.get_handle(answer.json()["id"]).result(timeout=60).output


WRONG = [
    ({}, "the field 'order_id' is missing"),
    ({"order_id": 3}, "`order_id`: expected string, got integer"),
    ({"order_id": "x", "tax": "much"}, "`tax`: expected number, got string"),
]


def test_j5_http_submission_gets_the_defaults_of_the_model(
    api: str, runner: cloaca.DefaultRunner
) -> None:
    assert output(runner, submit(api, {"order_id": "x"})) == "x 0.19 3600.0"
    everything = {"order_id": "x", "tax": 1, "patience": "PT2S", "other": [1]}
    assert output(runner, submit(api, everything)) == "x 1.0 2.0"


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(("input", "problem"), WRONG)
def test_j5_wrong_http_submission_is_refused_and_stores_nothing(
    api: str, runner: cloaca.DefaultRunner, input: object, problem: str, dry_run: bool
) -> None:
    answer = submit(api, input, dry_run=dry_run)
    body = answer.json()
    assert (answer.status, body["code"]) == (422, "workflow_input_invalid")
    assert body["detail"] == f"the input of workflow 'web_order' is not valid: {problem}"
    assert len(runner.list_executions(workflow="web_order").items) == 1


def test_j5_http_dry_run_accepts_what_a_submission_accepts(api: str) -> None:
    answer = submit(api, {"order_id": "x"}, dry_run=True)
    assert (answer.status, answer.json()["dry_run"]) == (200, True)


def test_j5_edited_input_of_an_http_rerun_is_checked(
    api: str, runner: cloaca.DefaultRunner
) -> None:
    (first,) = runner.list_executions(workflow="web_order").items
    rerun = f"{api}/{first.execution_id}/rerun"
    for input, problem in WRONG:
        answer = call(rerun, "POST", {"input": input})
        assert (answer.status, answer.json()["code"]) == (422, "workflow_input_invalid")
        assert problem in answer.json()["detail"]
    # The stored input contains the duration as a number of seconds.
    stored = runner.get_execution(first.execution_id).final_context.to_dict()
    assert stored.pop("total") == "first 0.19 3600.0"
    assert stored == {"order_id": "first", "tax": 0.19, "patience": 3600.0}
    edited = call(rerun, "POST", {"input": stored | {"order_id": "second"}})
    assert output(runner, edited) == "second 0.19 3600.0"
    assert output(runner, call(rerun, "POST", {})) == "first 0.19 3600.0"


def test_http_submission_can_select_a_stored_version(database: str) -> None:
    versions = []
    for ids in [["a"], ["a", "b"]]:
        with cloaca.WorkflowBuilder("web_versions") as builder:
            for id in ids:
                cloaca.task(id=id)(lambda context: None)
        versions.append(builder.build().version)
        with cloaca.DefaultRunner(database) as runner:
            runner.execute("web_versions")
    first, latest = versions
    with (
        cloaca.DefaultRunner(database) as runner,
        cloaca.web.serve(database, token=TOKEN) as server,
    ):
        api = f"{server.url}api/v1/executions"
        for version, tasks in [(first, ["a"]), (latest, ["a", "b"]), (None, ["a", "b"])]:
            answer = call(api, "POST", {"workflow": "web_versions", "version": version})
            assert answer.status == 201, answer.body
            result = runner.get_handle(answer.json()["id"]).result(timeout=60)
            assert list(result.tasks) == tasks
        for dry_run in (False, True):
            unknown = {"workflow": "web_versions", "version": "none", "dry_run": dry_run}
            problem = call(api, "POST", unknown).json()
            assert (problem["status"], problem["code"]) == (404, "workflow_not_found")
            assert "has no stored version 'none'" in problem["detail"]
            assert problem["hint"] == f"its latest version is '{latest}'"
            assert problem["instance"].startswith("urn:uuid:")
