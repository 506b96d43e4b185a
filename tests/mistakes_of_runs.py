"""Newcomers' mistakes in running workflows: databases, submissions, settings, processes."""

from __future__ import annotations

from mistakes_support import Mistake

MISTAKES = [
    Mistake(
        5,
        "the status of the result is not checked",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task(retry_delay_ms=1)
    def a(context):
        1 / 0
with cloaca.DefaultRunner(URL) as runner:
    runner.execute("w")
print("all good")
""",
        [
            "task 'a' of workflow 'w' failed (attempt 1 of 3), retrying in ",
            "ZeroDivisionError: division by zero",
            "task 'a' of workflow 'w' failed (attempt 3 of 3)",
            'program.py", line',
            "1 / 0",
        ],
    ),
    Mistake(
        5,
        "a failed execution with check=True",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task(retry_attempts=1)
    def a(context):
        1 / 0
run("w", check=True)
""",
        ["cloaca.WorkflowExecutionError: ", "task 'a' failed: ZeroDivisionError"],
        status=1,
    ),
    Mistake(
        9,
        "a blocking call in a coroutine",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    async def a(context):
        time.sleep(1.3)
run("w")
""",
        [
            "coroutine 'a' of workflow 'w' has held the event loop for 1.",
            "program.py:",
            "hint: await asyncio.to_thread(...), or make the task a plain function",
        ],
    ),
    Mistake(
        11,
        "two runners on one file",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context): ...
with cloaca.DefaultRunner(URL) as one, cloaca.DefaultRunner(URL) as two:
    print(one.execute("w").status, two.execute("w").status)
""",
        ["Completed Completed"],
    ),
    Mistake(
        12,
        "wrong URLs",
        """
for url in ["redis://localhost/0", "", None, 5, "sqlite:/x.db", "sqlite:///", "sqlite:///a/b/c.db",
            "postgresql://u:secret@127.0.0.1:1/db", "postgresql://localhost:99999/x"]:
    report(lambda: cloaca.DefaultRunner(url))
""",
        [
            "unknown scheme 'redis'\nhint: use sqlite:///relative.db, sqlite:////absolute.db",
            "the database URL is empty\nhint: use sqlite:///",
            "there is no database URL\nhint: give one, e.g. 'sqlite:///app.db'",
            "the database URL must be a string, not int\nhint: for example 'sqlite:///app.db'",
            "'sqlite:/x.db' lacks '//' after 'sqlite:'\nhint: ",
            "the SQLite URL names no file\nhint: ",
            "a/b does not exist\nhint: create the folder first",
            "cannot connect to the database postgresql://u@127.0.0.1:1/db: ",
            "hint: check that the server runs there",
            "invalid port '99999'\nhint: a port is a number from 1 to 65535, usually 5432",
        ],
    ),
    Mistake(
        13,
        "three slashes before an absolute path",
        """
path = pathlib.Path.cwd() / "here.db"
with cloaca.DefaultRunner(f"sqlite://{path}"): ...
print(path.exists())
report(lambda: cloaca.DefaultRunner("sqlite:///no/such/folder/x.db"))
report(lambda: cloaca.DefaultRunner("sqlite:///tmp/none/x.db"))
""",
        [
            "True",
            "no/such/folder does not exist\nhint: create the folder first\n",
            "tmp/none does not exist\nhint: create the folder first; for the absolute path "
            "/tmp/none/x.db write four slashes: sqlite:////tmp/none/x.db",
        ],
    ),
    Mistake(
        14,
        "a database URL in the form of SQLAlchemy",
        """
report(lambda: cloaca.DefaultRunner("postgresql+psycopg2://u:secret@h/db"))
report(lambda: cloaca.DefaultRunner("sqlite+pysqlite:///x.db"))
""",
        ["hint: leave out '+psycopg2'; use sqlite:///", "hint: leave out '+pysqlite'; use "],
    ),
    Mistake(
        15,
        "a file name instead of a URL",
        """
with cloaca.DefaultRunner("m.db"): ...
print(pathlib.Path("m.db").exists())
""",
        ["True"],
    ),
    Mistake(
        41,
        "arguments of the wrong type or with an unknown value",
        """
def load(context): ...
with cloaca.WorkflowBuilder("w"):
    cloaca.task(load)
with cloaca.DefaultRunner(URL) as runner:
    report(lambda: runner.execute(load))
    report(lambda: runner.submit("w", key=2026))
    report(lambda: runner.execute("w", timeout="5 secs"))
report(lambda: cloaca.task(retry_attempts="3")(load))
report(lambda: cloaca.task(trigger_rule="one_fail")(load))
report(lambda: cloaca.task(retry_backoff="expo")(load))
""",
        [
            "workflow must be the name of a workflow, not function\nhint: pass the name given to "
            "WorkflowBuilder, or the name of the @cloaca.workflow function",
            "key must be a string, not int",
            "timeout must be a duration, not '5 secs'\nhint: use seconds, a timedelta, or a string "
            'such as "90s", "10m", "48h" or "7d"',
            "retry_attempts must be a whole number from 0 to 1000000, not '3'",
            "unknown trigger_rule 'one_fail'\nhint: did you mean 'one_failed'?",
            "unknown retry_backoff 'expo'\nhint: choose from fixed, linear, exponential",
        ],
    ),
    Mistake(
        42,
        "a list, a string or a number as the input",
        """
with cloaca.WorkflowBuilder("w"):
    cloaca.task(id="a")(lambda context: None)
with cloaca.DefaultRunner(URL) as runner:
    for value in ([1], "text", 5):
        report(lambda: runner.execute("w", value))
""",
        [
            "must be a mapping or a Context, not list; name the value, such as {'rows': [1, 2]}",
            "must be a mapping or a Context, not str; name the value",
            "a mapping from names to values, such as {'day': 1}, not a value of type 'int'",
        ],
    ),
    Mistake(
        43,
        "options with the names that other tools use",
        """
def load(context): ...
for option in ["retries", "name", "depends_on", "retry_delay", "rate_limit"]:
    report(lambda: cloaca.task(**{option: 3})(load))
report(lambda: cloaca.DefaultRunnerConfig(max_workers=4))
""",
        [
            "'retries'\nhint: did you mean 'retry_attempts'? (it counts all attempts,",
            "'name'\nhint: did you mean 'id'?",
            "'depends_on'\nhint: did you mean 'dependencies'?",
            "'retry_delay'\nhint: did you mean 'retry_delay_ms'? (in milliseconds)",
            "'rate_limit'\nhint: choose from id, dependencies, ",
            "'max_workers'\nhint: did you mean 'max_concurrent_tasks'?",
        ],
    ),
    Mistake(
        44,
        "a setting as an argument of the runner",
        """cloaca.DefaultRunner(URL, max_concurrent_tasks=4)""",
        [
            "'max_concurrent_tasks'\n"
            "hint: settings go into the config: DefaultRunnerConfig(max_concurrent_tasks=...)",
        ],
        status=1,
    ),
    Mistake(
        45,
        "attributes of cloaca with the names that other tools use",
        """
for name in ["flow", "DAG", "step", "job", "Runner", "sleep", "run"]:
    report(lambda: getattr(cloaca, name))
""",
        [
            "'flow'\nhint: in cloaca: cloaca.WorkflowBuilder('name') for",
            "'DAG'\nhint: in cloaca: cloaca.WorkflowBuilder('name') for",
            "'step'\nhint: in cloaca: handle.step('key', function, ...)",
            "'job'\nhint: in cloaca: @cloaca.task",
            "'Runner'\nhint: in cloaca: cloaca.DefaultRunner('sqlite:///app.db')",
            "'sleep'\nhint: in cloaca: handle.sleep('key', seconds)",
            "'run'\nhint: in cloaca: runner.execute('name')",
        ],
    ),
    Mistake(
        45,
        "an import from cloaca of a name that exists only in other tools",
        """
for name in ["flow", "DAG", "activity", "shared_task", "App", "get_run_logger"]:
    report(lambda: exec(f"from cloaca import {name}"))
    print(hasattr(cloaca, name))
try:
    from cloaca import unheard_of
except ImportError as error:
    print(error)
from cloaca import approval, testing, wait
""",
        [
            "ImportError: cannot import name 'flow' from 'cloaca'\nhint: in cloaca: cloaca.Work",
            "False",
            "'DAG' from 'cloaca'\nhint: in cloaca: cloaca.WorkflowBuilder('name')",
            "'activity' from 'cloaca'\nhint: in cloaca: handle.step('key', function, ...",
            "'shared_task' from 'cloaca'\nhint: in cloaca: @cloaca.task\nFalse",
            "'App' from 'cloaca'\nhint: in cloaca: cloaca.DefaultRunner(",
            "'get_run_logger' from 'cloaca'\nhint: in cloaca: logging.getLogger(__name__)",
            "cannot import name 'unheard_of' from 'cloaca' (",
        ],
    ),
    Mistake(
        45,
        "a method of other tools called on a task",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context): ...
report(lambda: a.delay(1))
report(lambda: a.map([1, 2]))
""",
        [
            "AttributeError: a task has no delay()\nhint: a task runs in a workflow: runner.",
            "AttributeError: a task has no map()\nhint: a task that runs once per element",
        ],
    ),
    Mistake(
        45,
        "a method of other tools called inside a task",
        """
def other(): ...
with cloaca.WorkflowBuilder("w"):
    @cloaca.task(retry_attempts=1)
    def a(context):
        other.delay()
run("w")
""",
        [
            "AttributeError: 'function' object has no attribute 'delay'\n"
            "hint: a task is a plain function: its workflow runs it; run another workflow with",
        ],
    ),
    Mistake(
        46,
        "an id as the decorator's only argument",
        """@cloaca.task("load")
def a(context): ...
""",
        [
            "@task decorates functions, not str\n"
            "hint: an id goes into id=...: @cloaca.task(id='load')"
        ],
        status=1,
    ),
    Mistake(
        47,
        "a builder without a `with` block",
        """
builder = cloaca.WorkflowBuilder("w")
@cloaca.task
def a(context): ...
builder.add_task(a)
run("w")
""",
        [
            "workflow 'w' is not known\nhint: a WorkflowBuilder('w') was made, but not registered: "
            "use it in a 'with' block",
        ],
        status=1,
    ),
    Mistake(
        48,
        "a fork after the runner has started",
        """
with cloaca.WorkflowBuilder("w"):
    cloaca.task(id="a")(lambda context: None)
runner = cloaca.DefaultRunner(URL)
def child():
    report(lambda: runner.execute("w"))
    sys.stdout.flush()
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
runner.shutdown()
""",
        ["ForkedProcessError: ", "hint: start the process with 'spawn' instead of 'fork'"],
    ),
    Mistake(
        48,
        "no `if __name__ == '__main__'` before a process is spawned",
        """
runner = cloaca.DefaultRunner(URL)
process = multiprocessing.get_context("spawn").Process(target=print)
process.start()
process.join()
runner.shutdown()
""",
        ["RuntimeError:", "if __name__ == '__main__':"],
    ),
    Mistake(
        49,
        "a runner that is used after its block",
        """
with cloaca.WorkflowBuilder("w"):
    cloaca.task(id="a")(lambda context: None)
with cloaca.DefaultRunner(URL) as runner:
    handle = runner.submit("w", delay=60)
report(lambda: runner.execute("w"))
report(handle.result)
""",
        [
            "1 execution is open: it continues with the next runner",
            "RunnerClosedError: the runner is shut down\nhint: start a new DefaultRunner",
            "RunnerClosedError: the runner is shut down\n"
            "hint: start another one, and wait there: runner.get_handle(execution_id)",
        ],
    ),
    Mistake(
        50,
        "a submission at the end of the program",
        """
with cloaca.WorkflowBuilder("w"):
    cloaca.task(id="a")(lambda context: None)
runner = cloaca.DefaultRunner(URL)
runner.submit("w", delay=60)
""",
        [
            "1 execution is open: it continues with the next runner; to wait for it, call "
            "handle.result() or runner.wait_until_idle() before the runner shuts down",
        ],
    ),
    Mistake(
        52,
        "sys.exit in a task",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task(retry_attempts=1)
    def a(context):
        sys.exit(3)
run("w")
""",
        ["SystemExit: 3", 'program.py", line', "sys.exit(3)"],
    ),
    Mistake(
        53,
        "a coroutine that is never awaited",
        """
async def load():
    return {"x": 1}
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context):
        return load()
    @cloaca.task(dependencies=[a], trigger_rule="all_done")
    async def b(context):
        load()
    @cloaca.task(dependencies=[b], trigger_rule="all_done")
    def c():
        return load()
run("w")
""",
        [
            "returned a value of type 'coroutine'; await it in an 'async def' task",
            "program.py",
            "RuntimeWarning: coroutine 'load' was never awaited",
            "a value of type 'coroutine' is not JSON; await it in an 'async def' function",
        ],
    ),
    Mistake(
        0,
        "a task that runs a workflow and waits for it on the only worker",
        """
with cloaca.WorkflowBuilder("child"):
    cloaca.task(id="a")(lambda context: None)
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def b(context):
        runner.execute("child")
config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
with cloaca.DefaultRunner(URL, config) as runner:
    print(runner.execute("w").error_message)
""",
        ["the only worker of this runner would wait for workflow 'child'", "hint: "],
    ),
    Mistake(
        0,
        "execute and result on an event loop",
        """
import asyncio
with cloaca.WorkflowBuilder("w"):
    cloaca.task(id="a")(lambda context: None)
async def main():
    with cloaca.DefaultRunner(URL) as runner:
        runner.execute("w")
        await runner.submit("w").result()
asyncio.run(main())
""",
        [
            "execute() blocks the event loop that runs on this thread: use "
            "`await runner.execute_async(...)`",
            "hint: use 'await handle' instead of 'await handle.result()'",
        ],
    ),
    Mistake(
        0,
        "schedules that never fire",
        """
with cloaca.WorkflowBuilder("w"):
    cloaca.task(id="a")(lambda context: None)
with cloaca.DefaultRunner(URL) as runner:
    report(lambda: runner.register_cron_workflow("w", "every 5 minutes", "UTC"))
    report(lambda: runner.register_cron_workflow("w", "0 9 31 2 *", "UTC"))
    report(lambda: runner.register_cron_workflow("w", "0 9 * * *", "Europe/Berln"))
    report(lambda: runner.register_cron_workflow("reprt", "0 9 * * *", "UTC"))
""",
        [
            "hint: the fields are minute hour day-of-month month day-of-week, for example '30 9",
            "never fires: none of its months has such a day\nhint: check the day of month",
            "'Europe/Berln' is not an IANA time zone\nhint: did you mean 'Europe/Berlin'?",
            "this database has no workflow 'reprt'; ticks are recorded as skipped",
        ],
    ),
    Mistake(
        0,
        "a task that reads an undefined name is not retried",
        """
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def a(context):
        contxt["x"] = 1
run("w")
""",
        ["NameError: name 'contxt' is not defined", "attempts {'a': 1}"],
    ),
]
