"""Each curl command in the reference of the HTTP API succeeds, or gets the expected error."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import cloaca
import cloaca.web
from documentation import DOCS
from web_support import TOKEN, call

PAGE = DOCS / "reference" / "http-api.md"
COMMAND = re.compile(r"^### `(\w+) (\S+)` .*?^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Routes that respond with a conflict: the state of the example's execution forbids the request.
CONFLICTS = {
    "/executions/{id}/cancel",
    "/executions/{id}/pause",
    "/executions/{id}/resume",
    "/executions/{id}/tasks/{task}/map",
}


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_each_command_of_the_reference_is_answered(tmp_path: Path) -> None:
    with cloaca.WorkflowBuilder("etl"):

        @cloaca.task(over="urls", tolerate=1.0)
        def fetch(url: str) -> int:
            return len(url)

        @cloaca.task(id="load", retry_attempts=1)
        def load(context):
            if context.get("fails"):
                raise ValueError("no way")

    found = COMMAND.findall(PAGE.read_text())
    assert len(found) > 40
    url = f"sqlite:///{tmp_path}/reference.db"
    with cloaca.DefaultRunner(url) as runner, cloaca.web.serve(url, token=TOKEN) as server:
        runner.execute("etl", {"urls": []})
        failed = runner.execute("etl", {"fails": True, "urls": ["a", "b"]})
        schedule = runner.register_cron_workflow("etl", "0 0 1 1 *")
        api = f"{server.url}api/v1"
        variables = {
            "URL": server.url.rstrip("/"),
            "TOKEN": TOKEN,
            "ID": failed.execution_id,
            "SCHEDULE": schedule,
            "RUNNER": call(f"{api}/runners").json()["items"][0]["id"],
            "VERSION": call(f"{api}/workflows/etl").json()["version"],
        }
        # DELETE comes last, because a deleted schedule or execution cannot be shown.
        for method, path, command in sorted(found, key=lambda route: route[0] == "DELETE"):
            done = subprocess.run(
                ["bash", "-c", command.replace("curl -sS", "curl -sS -w '\\n%{http_code}'")],
                env=os.environ | variables,
                capture_output=True,
                text=True,
                timeout=60,
            )
            body, _, status = done.stdout.rpartition("\n")
            if path == "/stream":
                assert "event: open" in done.stdout, done.stderr
            elif path.endswith(("/approve", "/reject")):
                assert status.startswith("4"), body  # The task needs no approval.
            elif path in CONFLICTS:
                assert status == "409", (path, body)
                assert json.loads(body)["current"] in ("Failed", "Completed", "Running")
            else:
                assert status.startswith("2"), (method, path, body, done.stderr)
