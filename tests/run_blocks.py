"""Runs the Python blocks of one page in one namespace, in the working folder.

Reads a list of blocks as JSON from stdin, and writes the list of their outputs as JSON to the file
that the argument names. A block is `{"name", "line", "code", "title", "is_started"}`. A block with
a title is written to a file of that name and imported. If it has a main part (`if __name__ ...`)
and `is_started` is true, the file is also run as a program. In blocks without a title, `__name__`
is `__main__`. A block that starts with `>>>` is an interpreter session, whose output must match
(`...` matches any text).
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import json
import linecache
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

MAIN = '__name__ == "__main__"'


def run_session(block: dict[str, Any], namespace: dict[str, Any]) -> None:
    """Runs an interpreter session. Raises an error if the output is not the one in the block."""
    lines = block["line"] - 1
    session = doctest.DocTestParser().get_doctest(
        block["code"], namespace, block["name"], block["name"], lines
    )
    # The parser copied the namespace. Later blocks must see the names that the session defines.
    session.globs = namespace
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    runner.run(session, out=report.append, clear_globs=False)
    if runner.failures:
        raise AssertionError("".join(report))


def main() -> None:
    """Runs all blocks. If a block raises an exception, this program ends with its traceback."""
    sys.path.insert(0, str(Path.cwd()))
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    printed = []
    for block in json.load(sys.stdin):
        out = io.StringIO()
        if block["title"]:
            Path(block["title"]).write_text(block["code"])
            stem = Path(block["title"]).stem
            # A file such as `gunicorn.conf.py` cannot be imported under its name.
            importlib.import_module(stem) if stem.isidentifier() else runpy.run_path(block["title"])
            if MAIN in block["code"] and block["is_started"]:
                command = [sys.executable, block["title"]]
                out.write(
                    subprocess.run(command, check=True, capture_output=True, text=True).stdout
                )
        elif block["code"].startswith(">>>"):
            run_session(block, namespace)
        else:
            # Blank lines before the code make tracebacks show the line numbers of the page.
            source = "\n" * (block["line"] - 1) + block["code"]
            name = f"<{block['name']}:{block['line']}>"
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            with contextlib.redirect_stdout(out):
                exec(compile(source, name, "exec"), namespace)
        printed.append(out.getvalue())
    Path(sys.argv[1]).write_text(json.dumps(printed))


main()
