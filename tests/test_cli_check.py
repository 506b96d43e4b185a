"""`cloaca check`, and the declared input and output in `cloaca workflows` and in drawings."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import cloaca

MODULE = """
import cloaca


class Mailer:
    pass


with cloaca.WorkflowBuilder("order", input={"order_id": str, "urls": list[str]}, output="total"):

    @cloaca.task
    def rows(urls: list[str]) -> list[float]:
        return [1.0 for _ in urls]

    @cloaca.task
    def total(rows: list[float], order_id: str, tax: float = 0.19, *, handle) -> float:
        return sum(rows)

    @cloaca.task
    def mail(context, total: float = cloaca.result(total), mailer=cloaca.resource(Mailer)):
        pass

    cloaca.external_task("rust", dependencies=["mail"])

with cloaca.WorkflowBuilder("plain"):

    @cloaca.task
    def load(context, limit=3):
        pass
"""

TEXT = """\
order  VERSION  4 tasks
input   order_id: string, urls: array of string
output  total
rows
  urls  input 'urls'
  result under 'rows'
total  after rows
  rows      result of task 'rows'
  order_id  input 'order_id'
  tax       its default
  handle    handle of the attempt
  result under 'total'
mail  after total
  context  the context
  total    result of task 'total'
  mailer   resource of the runner
rust  after mail
  run by another program

plain  VERSION  1 tasks
load
  context  the context
  limit    its default
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "checked.py"
    path.write_text(MODULE)
    return path


def invoke(*arguments):
    command = [sys.executable, "-m", "cloaca", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_check_shows_each_edge_and_parameter(module):
    told = invoke("check", module)
    assert (told.returncode, told.stderr) == (0, "")
    lines = [
        f"{line.split()[0]}  VERSION  {line.split('  ')[2]}" if line.endswith(" tasks") else line
        for line in told.stdout.splitlines()
    ]
    assert lines == TEXT.splitlines()


def test_check_of_one_workflow_as_json(module):
    told = invoke("check", f"{module}:order", "--json")
    assert (told.returncode, told.stderr) == (0, "")
    (workflow,) = json.loads(told.stdout)
    assert workflow["input"]["properties"]["order_id"] == {"type": "string"}
    assert workflow["output"] == "total"
    assert workflow["tasks"][1] == {
        "id": "total",
        "dependencies": ["rows"],
        "result": "total",
        "parameters": [
            {"name": "rows", "from": "task", "key": "rows", "task": "rows"},
            {"name": "order_id", "from": "input", "key": "order_id"},
            {"name": "tax", "from": "default"},
            {"name": "handle", "from": "handle"},
        ],
    }


def test_check_of_an_unknown_workflow_names_the_nearest_one(module):
    told = invoke("check", f"{module}:ordr")
    assert told.returncode == 1
    assert "did you mean 'order'?" in told.stderr


def test_check_of_an_invalid_workflow_ends_with_status_1(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(MODULE.replace("rows: list[float], order_id", "rows: int, order_id"))
    told = invoke("check", path)
    assert told.returncode == 1
    assert "parameter 'rows' takes number, but the result of task 'rows' is array" in told.stderr
    empty = tmp_path / "empty.py"
    empty.write_text("")
    assert "defines no workflow" in invoke("check", empty).stderr


def test_workflows_show_names_the_input_and_the_output(module):
    told = invoke("workflows", "show", "order", "--module", module, "--format", "text")
    assert told.returncode == 0, told.stderr
    assert "input   order_id: string, urls: array of string\noutput  total\n" in told.stdout
    document = json.loads(invoke("workflows", "show", "order", "--module", module, "--json").stdout)
    assert document["output"] == "total"
    assert [entry["name"] for entry in document["parameters"]["rows"]] == ["urls"]


def test_drawings_show_the_input_and_the_output():
    with cloaca.WorkflowBuilder(
        "order", input={"n": int, "m": int}, output=("double", "m")
    ) as builder:

        @cloaca.task
        def double(n: int, m: int) -> int:
            return 2 * n

    workflow = builder.build()
    assert workflow.to_mermaid().splitlines() == [
        "flowchart TD",
        '    t0["double"]',
        '    input(["input"])',
        '    output(["output"])',
        '    input -->|"n, m"| t0',
        '    t0 -->|"double"| output',
        '    input -->|"m"| output',
    ]
    dot = workflow.to_dot()
    assert '":input" -> "double" [label="n, m"];' in dot
    assert '"double" -> ":output" [label="double"];' in dot
    html = workflow._repr_html_()
    assert "input   n: integer, m: integer" in html
    assert "output  double, m" in html
    assert "<title>double\nn: input &#x27;n&#x27;" in html


def test_drawing_of_a_workflow_without_values_has_tasks_only():
    with cloaca.WorkflowBuilder("plain") as builder:
        cloaca.task(id="a")(lambda context: None)
    assert builder.build().to_mermaid() == 'flowchart TD\n    t0["a"]\n'
