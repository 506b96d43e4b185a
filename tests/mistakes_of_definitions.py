"""Newcomers' mistakes in definitions: in tasks, parameters, names and annotations."""

from __future__ import annotations

from mistakes_support import Mistake

MISTAKES = [
    Mistake(
        1,
        "a task without a parameter for the context",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a():
        return {"x": 1}
run("w")
""",
        ["Completed", "context {'a': {'x': 1}}"],
    ),
    Mistake(
        2,
        "as in Prefect: a parameter with the name of an earlier task, and a list as the result",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def extract():
        return [1, 2]
    @cloaca.task
    def total(extract):
        return sum(extract)
run("w")
""",
        ["Completed", "'total': 3"],
    ),
    Mistake(
        2,
        "a list as the result of a task that takes the context",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def extract(context):
        return [1, 2]
run("w")
""",
        [
            "task 'extract' failed: TypeError: the task returned a value of type 'list'; "
            "it may return None, its context, another Context or a mapping; a task without a "
            "parameter for the context may return any value",
            "attempts {'extract': 1}",
        ],
    ),
    Mistake(
        3,
        "a second parameter that is neither a task nor a field of the input",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def total(context, rows):
        return {"n": sum(rows)}
""",
        [
            "TaskValidationError: task 'total': total() needs a parameter 'rows'",
            "hint: read it from the context: context['rows']",
        ],
        status=1,
    ),
    Mistake(
        3,
        "a name that is almost the name of the task itself",
        """
def define(function, **options):
    with cloaca.WorkflowBuilder("w", input={"rows": list}):
        cloaca.task(id="load", **options)(function)
def takes_context(context, loads): ...
def marked(x=cloaca.result("loat")): ...
def mapped(x): ...
report(lambda: define(takes_context))
report(lambda: define(marked))
report(lambda: define(mapped, over="loat"))
""",
        [
            "hint: the input has: rows; the context has what other tasks write: context['loads']",
            "parameter 'x' is the result of task 'loat', which workflow 'w' does not have\n"
            "TaskValidationError: task 'load' runs over 'loat', which is neither a task of the "
            "workflow nor a field of its input\n",
        ],
    ),
    Mistake(
        4,
        "a key that the context does not have",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context):
        context["rows"] = [1]
    @cloaca.task(dependencies=[a], retry_attempts=1)
    def b(context):
        return {"n": len(context["row"])}
run("w")
""",
        ["KeyError: the context has no key 'row'; did you mean 'rows'? It has: rows"],
    ),
    Mistake(
        6,
        "a cycle",
        """
with cloaca.WorkflowBuilder("w"):
    cloaca.task(id="a", dependencies=["c"])(lambda context: None)
    cloaca.task(id="b", dependencies=["a"])(lambda context: None)
    cloaca.task(id="c", dependencies=["b"])(lambda context: None)
""",
        [
            "WorkflowValidationError: workflow 'w' has a cycle: a -> b -> c -> a",
            "hint: an arrow means 'must end before'; remove one of these dependencies",
        ],
        status=1,
    ),
    Mistake(
        7,
        "a dependency that does not exist",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def extract(context): ...
    @cloaca.task(dependencies=["extrct"])
    def load(context): ...
""",
        ["task 'load' of workflow 'w' depends on unknown task 'extrct'", "did you mean 'extract'?"],
        status=1,
    ),
    Mistake(
        8,
        "a lambda without an id",
        """
with cloaca.WorkflowBuilder("w"):
    cloaca.task(lambda context: None)
""",
        ["has no name that could be the task's id", "hint: give it one: id='...'"],
        status=1,
    ),
    Mistake(
        10,
        "a function that defines a workflow and is called twice",
        """
logging.basicConfig(level="INFO", format="%(message)s")
def define(number, dependencies=()):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id=f"task_{number}")(lambda context: None)
define(1)
define(2)
run("w")
""",
        ["workflow 'w' is defined again; this definition replaces the earlier", "'task_2': 1"],
    ),
    Mistake(
        10,
        "two functions that define workflows of the same name",
        """
def make1():
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="first")(lambda context: None)
def make2():
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="second")(lambda context: None)
make1(); make2()
""",
        [
            "workflow 'w' is defined at ",
            "program.py:25 and again at ",
            "program.py:28; the later one replaces the earlier one; hint: give one of them another",
        ],
    ),
    Mistake(
        10,
        "a function with two definitions of a workflow, one of which runs in each call",
        """
with cloaca.WorkflowBuilder("w"):
    cloaca.task(id="zeroth")(lambda context: None)
def make(is_first):
    if is_first:
        with cloaca.WorkflowBuilder("w"):
            cloaca.task(id="first")(lambda context: None)
    else:
        with cloaca.WorkflowBuilder("w"):
            cloaca.task(id="second")(lambda context: None)
make(True); make(False); make(False)
""",
        [
            "program.py:24 and again at ",
            "program.py:28; the later one replaces",
            "program.py:28 and again at ",
            "program.py:31; the later one replaces",
        ],
    ),
    Mistake(
        10,
        "two definitions of one workflow in a file",
        """
with cloaca.WorkflowBuilder("w"):
    cloaca.task(id="first")(lambda context: None)
with cloaca.WorkflowBuilder("w"):
    cloaca.task(id="second")(lambda context: None)
@cloaca.workflow
def v():
    return 1
@cloaca.workflow
def v():
    return 2
""",
        [
            "workflow 'w' is defined at ",
            "program.py:24 and again at ",
            "program.py:26; the later one replaces the earlier one; hint: give one of them another",
            "workflow 'v' is defined at ",
        ],
    ),
    Mistake(
        10,
        "two files that define workflows of the same name",
        """
import other
with cloaca.WorkflowBuilder("w"):
    cloaca.task(id="here")(lambda context: None)
""",
        [
            "workflow 'w' in ",
            "other.py is replaced with the workflow of the same name in ",
            "program.py",
        ],
        files={
            "other.py": "import cloaca\n"
            "with cloaca.WorkflowBuilder('w'):\n"
            "    cloaca.task(id='there')(lambda context: None)\n"
        },
    ),
    Mistake(
        28,
        "tasks that read the variable of a loop",
        """
with cloaca.WorkflowBuilder("w"):
    for region in ["north", "south"]:
        @cloaca.task(id=f"load_{region}")
        def load(context):
            return {region: 1}
""",
        [
            "tasks 'load_north' and 'load_south' read the variable 'region' when they run: both "
            "get its last value; hint: keep each task's value in a default: "
            "def load(context, region=region)",
        ],
    ),
    Mistake(
        29,
        "a bound method",
        """
class Job:
    def load(self, context):
        return {"n": 1}
with cloaca.WorkflowBuilder("w"):
    cloaca.task(Job().load)
run("w")
""",
        ["context {'n': 1}"],
    ),
    Mistake(
        30,
        "the decorator on a method in the body of a class",
        """
with cloaca.WorkflowBuilder("w"):
    class Pipeline:
        @cloaca.task
        def load(self, context): ...
""",
        ["hint: @cloaca.task is on a method without an object; decorate a function, or a"],
        status=1,
    ),
    Mistake(
        30,
        "the decorator on a method without a context parameter",
        """
class Pipeline:
    @cloaca.task
    def load(self, limit: int = 3): ...
""",
        [
            "task 'load': the parameter 'self' of Pipeline.load() receives the context, not an "
            "object of its class; hint: use a function or a staticmethod, or decorate a method of",
        ],
    ),
    Mistake(
        31,
        "the decorator on a class",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    class Extract:
        def __init__(self, context): ...
""",
        [
            "task 'Extract': Extract is a class",
            "hint: pass a function, or a method of an object: cloaca.task(job.run)",
        ],
        status=1,
    ),
    Mistake(
        32,
        "a partial",
        """
def load(number, context):
    return {"n": number}
with cloaca.WorkflowBuilder("w"):
    cloaca.task(functools.partial(load, 3))
run("w")
""",
        ["attempts {'load': 1}", "context {'n': 3}"],
    ),
    Mistake(
        33,
        "a generator",
        """
def a(context):
    yield 1
async def b(context):
    yield 1
for function in (a, b):
    report(lambda: cloaca.task(function))
""",
        [
            "task 'a': a() is a generator function",
            "hint: a task returns its value, its context or a mapping; it cannot yield",
            "task 'b': b() is a generator function",
        ],
    ),
    Mistake(
        34,
        "a default that the input does not replace, because the task takes the context",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context, limit=10):
        return {"n": limit}
run("w", {"limit": 99})
""",
        [
            "parameter 'limit' of task 'a' keeps its default, because a task that takes the "
            "context must read keys from the context; hint: use context.get('limit'), or remove "
            "the context parameter and annotate 'limit'",
        ],
    ),
    Mistake(
        34,
        "a default that the input replaces, because the task does not take the context",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(limit: int = 10):
        return limit
run("w", {"limit": 99})
""",
        ["'a': 99"],
    ),
    Mistake(
        35,
        "a model as the annotation of the context",
        """
import pydantic
class Order(pydantic.BaseModel):
    total: int
with cloaca.WorkflowBuilder("w"):
    @cloaca.task(retry_attempts=1)
    def a(context: Order):
        return {"n": context.total}
run("w", {"total": 3})
""",
        ["hint: the value is a Context, whatever its annotation says; read context['total']"],
    ),
    Mistake(
        36,
        "a model as a parameter after the context",
        """
import pydantic
class Order(pydantic.BaseModel):
    total: int
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context, order: Order):
        return {"n": order.total}
run("w", {"order": {"total": 3}})
""",
        ["'n': 3"],
    ),
    Mistake(
        36,
        "a parameter for the whole input, although each field is a separate value",
        """
class Order(__import__("typing").TypedDict):
    total: int
def takes_context(context, order: Order): ...
def takes_values(order: Order): ...
for function in (takes_context, takes_values):
    def define():
        with cloaca.WorkflowBuilder("w", input=Order):
            cloaca.task(function)
    report(define)
""",
        [
            "takes_context() needs a parameter 'order', for which a task receives no value\n"
            "hint: the input has: total; the context has what other tasks write: ",
            "takes_values() needs a parameter 'order', which is neither a task of the workflow nor "
            "a field of its input\nhint: the input has: total; declare it in input=, name a task",
        ],
    ),
    Mistake(
        37,
        "a model as a value of the input",
        """
import pydantic
class Order(pydantic.BaseModel):
    total: int
with cloaca.WorkflowBuilder("w"):
    @cloaca.task(retry_attempts=1)
    def a(context):
        return {"n": context["order"].total}
run("w", {"order": Order(total=3)})
""",
        [
            "hint: a context stores JSON, so a model or dataclass is read back as a dict; read "
            "value['total'], or create the object again from the dict",
        ],
    ),
    Mistake(
        38,
        "two tasks with the same name",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context): ...
    @cloaca.task
    def a(context): ...
""",
        ["workflow 'w' has two tasks with the id 'a'\nhint: give one of them another id=..."],
        status=1,
    ),
    Mistake(
        39,
        "a name with a space",
        """
with cloaca.WorkflowBuilder("my flow"):
    cloaca.task(id="a")(lambda context: None)
""",
        ["invalid workflow name 'my flow'\nhint: use 1 to 255 of the characters A-Z a-z 0-9 _ . -"],
        status=1,
    ),
    Mistake(
        40,
        "a workflow that does not exist",
        """
with cloaca.WorkflowBuilder("daily"):
    cloaca.task(id="a")(lambda context: None)
run("dialy")
""",
        ["WorkflowNotFoundError: workflow 'dialy' is not known\nhint: did you mean 'daily'?"],
        status=1,
    ),
]
