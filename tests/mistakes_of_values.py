"""Newcomers' mistakes with values: what a context can hold and how it merges."""

from __future__ import annotations

from mistakes_support import Mistake

MISTAKES = [
    Mistake(
        16,
        "values without a JSON form",
        """
import re, threading
class Thing: ...
context = cloaca.Context()
for value in [Thing(), Thing, print, b"x", re.compile("x"), range(3), (x for x in []), 1j]:
    report(lambda: context.set("k", value))
""",
        [
            "context key 'k': a value of type '__main__.Thing' is not JSON; store its data (text, "
            "numbers, lists, dicts) or the name of a file",
            "'type' is not JSON; store what it returns, or its name",
            "'builtin_function_or_method' is not JSON; store what it returns, or its name",
            "'bytes' is not JSON; encode it as text, e.g. with base64, or store a file's name",
            "'re.Pattern' is not JSON; store its data",
            "'range' is not JSON; convert it with list(value)",
            "'generator' is not JSON; convert it with list(value)",
            "'complex' is not JSON; store its data",
        ],
    ),
    Mistake(
        17,
        "a path",
        """report(lambda: cloaca.Context().set("p", pathlib.Path("/x")))""",
        ["'p': a value of type 'pathlib.PosixPath' is not JSON; convert it with str(path)"],
    ),
    Mistake(
        18,
        "a numpy scalar",
        """
class int64:
    def tolist(self): return 1
report(lambda: cloaca.Context().set("n", int64()))
""",
        ["context key 'n': ", "is not JSON; convert it with .tolist()"],
    ),
    Mistake(
        19,
        "a DataFrame",
        """
class DataFrame:
    def to_dict(self, kind): ...
report(lambda: cloaca.Context().set("frame", DataFrame()))
""",
        ["context key 'frame': ", """is not JSON; convert it with .to_dict("records")"""],
    ),
    Mistake(
        20,
        "the pandas values NaT and NA",
        """
class NaT(datetime.datetime):
    def __eq__(self, other): return False
    def __ne__(self, other): return True
    __hash__ = None
class NAType: ...
report(lambda: cloaca.Context().set("day", NaT(2026, 1, 1)))
report(lambda: cloaca.Context().set("day", NAType()))
""",
        [
            "ValueError: context key 'day': NaT is not JSON; store None instead",
            "NAType' is not JSON; store None instead",
        ],
    ),
    Mistake(
        21,
        "NaN and infinities",
        """
for value in [math.nan, math.inf, [math.nan]]:
    report(lambda: cloaca.Context().set("x", value))
""",
        ["'x': NaN and infinities are not JSON; store None or a text instead"] * 3,
    ),
    Mistake(
        22,
        "keys of a dict that are not strings",
        """
report(lambda: cloaca.Context().set("counts", {1: 2}))
report(lambda: cloaca.Context().set("counts", {(1, 2): 3}))
""",
        [
            "context key 'counts': the key 1 of an object is of type 'int', but keys of JSON "
            "objects are strings; convert it with str(key)",
            "the key (1, 2) of an object is of type 'tuple'",
            "convert it to a string, or store a list of pairs",
        ],
    ),
    Mistake(
        23,
        "50 MB in the context",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context):
        context["x"] = "x" * 50_000_000
run("w")
""",
        [
            "ContextError: task 'a' wrote 50000003 bytes to the context, more than "
            "max_context_bytes 16777216; store large data in a file or a table, and its name in "
            "the context",
        ],
    ),
    Mistake(
        24,
        "a date, a set, a tuple and a timedelta come back as JSON",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context):
        context["day"] = datetime.date(2026, 1, 1)
        context["set"] = {1}
        context["tuple"] = 1, 2
        context["pause"] = datetime.timedelta(1)
    @cloaca.task(dependencies=[a], retry_attempts=1)
    def b(context):
        context["day"].year
    @cloaca.task(dependencies=[b], retry_attempts=1, trigger_rule="all_done")
    def c(context):
        context["set"].add(2)
    @cloaca.task(dependencies=[c], retry_attempts=1, trigger_rule="all_done")
    def d(context):
        {context["tuple"]: 1}
    @cloaca.task(dependencies=[d], retry_attempts=1, trigger_rule="all_done")
    def e(context):
        context["day"] + datetime.timedelta(1)
    @cloaca.task(dependencies=[e], retry_attempts=1, trigger_rule="all_done")
    def f(context):
        datetime.date(2026, 1, 1) - context["day"]
    @cloaca.task(dependencies=[f], retry_attempts=1, trigger_rule="all_done")
    def g(context):
        datetime.datetime.now() + context["pause"]
run("w")
""",
        [
            "AttributeError: 'str' object has no attribute 'year'\n"
            "hint: a context stores JSON, so a datetime is read back as text; convert it: ",
            "hint: a context stores JSON, so a set is read back as a list; convert it: set(",
            "unhashable type: 'list'",
            "hint: a context stores JSON, so a tuple is read back as a list; convert it: ",
            "hint: a context stores JSON, so a date or time is read back as text; convert it",
            "hint: a context stores JSON, so a date or time is read back as text; convert it",
            "hint: a context stores JSON, so a timedelta is read back as seconds; convert it",
        ],
    ),
    Mistake(
        25,
        "a context value that is changed in place",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context):
        context["rows"] = []
        context["rows"].append(1)
run("w")
""",
        ["context {'rows': [1]}"],
    ),
    Mistake(
        26,
        "lists from two branches",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def north(context):
        return {"amounts": [100, 100]}
    @cloaca.task
    def south(context):
        return {"amounts": [100, 50]}
    @cloaca.task(dependencies=[north, south])
    def total(context):
        return {"total": sum(context["amounts"])}
run("w")
""",
        ["'total': 350"],
    ),
]
