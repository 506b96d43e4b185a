"""`cloaca check`, and the declared input and output in `cloaca workflows` and in drawings."""

from __future__ import annotations

import json
import re
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

plain  VERSION  1 task
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
    assert without_version(told.stdout) == TEXT.splitlines()


def test_check_prints_one_workflow_as_json(module):
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


NODES = """
import cloaca


def refund(charge: int, error, handle):
    pass


with cloaca.WorkflowBuilder("check_nodes", input={"order_id": str, "pages": list[str]}):
    cloaca.wait("cool_down", wait_for=cloaca.any_of(cloaca.delay("1h"), cloaca.signal("go")))
    cloaca.approval("approve", dependencies=["cool_down"])
    cloaca.child(
        "invoice",
        workflow="invoicing",
        input={"order": "order_id", "by": "approve.by"},
        dependencies=["approve"],
    )
    cloaca.child("audit", workflow="auditing")
    cloaca.child(
        "made", workflow="render", over="pages", input={"page": "item", "url": "item.url"}
    )
    cloaca.child(
        "pairs", workflow="render", over={"a": "pages", "b": "made"}, input={"x": "a", "y": "b"}
    )

    @cloaca.task
    def urls(pages: list[str]) -> dict[str, list[str]]:
        return {"all": pages}

    @cloaca.task(over="urls.all")
    def got(url: str) -> int:
        return 1

    @cloaca.task(over="got", batch=500)
    def load(rows: list[int], order_id: str) -> int:
        return 1

    @cloaca.task(wait_for=cloaca.any_of(cloaca.signal("paid"), cloaca.signal("sent")))
    def book(paid: dict, sent: dict | None = None) -> int:
        return 1

    @cloaca.task(compensate=refund)
    def charge(order_id: str) -> int:
        return 1

    @cloaca.task(final="always")
    def teardown(error: cloaca.ErrorInfo | None):
        pass

    @cloaca.task(final="failure", dependencies=["teardown"])
    def tell(charge: int) -> str:
        return ""
"""

NODES_TEXT = """\
check_nodes  VERSION  11 tasks
input   order_id: string, pages: array of string
cool_down
  waits for any_of(delay('1h'), signal('go'))
  result under 'cool_down'
approve  after cool_down
  waits for an approval
  result under 'approve'
invoice  after approve
  runs workflow 'invoicing'
  order  input 'order_id'
  by     'by' of the result of task 'approve'
  result under 'invoice'
audit
  runs workflow 'auditing', with the context as its input
  result under 'audit'
made
  runs workflow 'render' for each item of the input 'pages'
  page  item of the input 'pages'
  url   'url' of the item of the input 'pages'
  result under 'made'
pairs  after made
  runs workflow 'render' for each item of the input 'pages' and the result of task 'made'
  x  item of the input 'pages'
  y  item of the result of task 'made'
  result under 'pairs'
urls
  pages  input 'pages'
  result under 'urls'
got  after urls
  url  item of 'all' of the result of task 'urls'
  result under 'got'
load  after got
  rows      up to 500 items of the result of task 'got'
  order_id  input 'order_id'
  result under 'load'
book
  paid  payload of the signal
  sent  payload of the signal, or its default
  result under 'book'
charge
  order_id  input 'order_id'
  result under 'charge'
teardown  final task
  error  error of the execution, or None
  result under 'teardown'
tell  final task of failed executions  after teardown
  charge  result of task 'charge'
  result under 'tell'
charge  compensation
  charge  result of task 'charge'
  error   error of the execution, or None
  handle  handle of the attempt
"""


def without_version(text):
    pattern = r"(?m)^(\S+)  [0-9a-f]+  (\d+ tasks?)$"
    return re.sub(pattern, r"\1  VERSION  \2", text).splitlines()


def test_check_shows_waits_children_maps_finals_and_compensations(tmp_path):
    path = tmp_path / "nodes.py"
    path.write_text(NODES)
    told = invoke("check", path)
    assert (told.returncode, told.stderr) == (0, "")
    assert without_version(told.stdout) == NODES_TEXT.splitlines()
    (document,) = json.loads(invoke("check", path, "--json").stdout)
    tasks = {task["id"]: task for task in document["tasks"]}
    assert tasks["cool_down"]["node"]["kind"] == "wait"
    assert tasks["made"]["node"] == {"kind": "child", "workflow": "render", "input": True}
    assert tasks["made"]["over"] == {"item": {"from": "input", "key": "pages"}}
    assert tasks["got"]["over"] == {
        "url": {"from": "task", "key": "urls", "task": "urls", "path": "all"}
    }
    assert "default" not in tasks["book"]["parameters"][0]
    finals = [(task["id"], task["final"]) for task in document["finals"]]
    assert finals == [
        ("teardown", "always"),
        ("tell", "failure"),
        ("charge", "compensation"),
    ]


def test_only_external_tasks_are_drawn_with_dashes():
    with cloaca.WorkflowBuilder("dashed_boxes") as builder:
        cloaca.wait("cool_down", wait_for=cloaca.delay("1h"))
        cloaca.child("invoice", workflow="invoicing")
        cloaca.external_task("rust")
    html = builder.build()._repr_html_()
    boxes = html.split("<g><title>")[1:]
    assert [box.partition("<")[0] for box in boxes if "stroke-dasharray" in box] == ["rust"]


def test_check_of_an_unknown_workflow_suggests_the_nearest_name(module):
    told = invoke("check", f"{module}:ordr")
    assert told.returncode == 1
    assert "did you mean 'order'?" in told.stderr


def test_check_of_an_invalid_workflow_ends_with_status_1(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(MODULE.replace("rows: list[float], order_id", "rows: int, order_id"))
    told = invoke("check", path)
    assert told.returncode == 1
    assert (
        "parameter 'rows' takes a number, but the result of task 'rows' is an array" in told.stderr
    )
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


def test_drawing_without_declared_input_and_output_has_only_tasks():
    with cloaca.WorkflowBuilder("plain") as builder:
        cloaca.task(id="a")(lambda context: None)
    assert builder.build().to_mermaid() == 'flowchart TD\n    t0["a"]\n'
