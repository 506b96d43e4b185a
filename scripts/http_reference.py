"""Generates the reference of the HTTP API from its OpenAPI document, with a curl command per route.

`reference_pages.py` calls `routes`; `tests/test_docs_http.py` runs the commands.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "crates" / "cloacina-web" / "openapi.json"
PROBLEMS = ROOT / "crates" / "cloacina-web" / "src" / "problem.rs"

#: The titles of the groups of routes, in the order of the page.
GROUPS = {
    "executions": "Executions",
    "compare": "Comparison",
    "counts": "Counts",
    "activity": "Activity",
    "failures": "Failures by cause",
    "waiting": "Waiting executions",
    "attention": "Attention",
    "workflows": "Workflows",
    "waits": "Waits",
    "signals": "Signals",
    "schedules": "Schedules",
    "runners": "Runners",
    "meta": "Server",
    "database": "Database",
    "tenants": "Tenants",
    "changes": "Changes",
    "stream": "Stream",
    "openapi.json": "Document",
    "healthz": "Health",
}

#: The request bodies of the curl commands, by operation.
BODIES: dict[str, dict[str, Any]] = {
    "submit": {"workflow": "etl", "input": {"day": "2026-01-01"}, "labels": {"order": "4711"}},
    "controlExecutions": {"action": "retry", "filter": {"status": "Failed"}, "dry_run": True},
    "cancelExecution": {"note": "wrong day"},
    "rerunExecution": {"version": "latest", "note": "after the fix"},
    "sendSignal": {"name": "paid", "key": "order-42", "data": {"amount": 3}, "id": "evt-1"},
    "rejectTask": {"reason": "too expensive"},
    "changeMap": {"parallel": 2},
    "createSchedule": {"workflow": "etl", "cron": "30 2 * * *", "timezone": "Europe/Berlin"},
    "changeSchedule": {"cron": "0 3 * * *"},
    "backfillSchedule": {"from": "7d", "dry_run": True},
    "pruneDatabase": {"older_than": "30d"},
}

#: The operations on maps. In their curl commands, the map is the task `fetch`.
MAPS = {"listItems", "changeMap"}

#: The query strings of the curl commands, by operation.
QUERIES = {
    "listExecutions": "status=Failed&since=24h",
    "compareExecutions": "a=$ID&b=last-success",
    "previewCron": "expression=@daily&count=3",
    "listLogs": "level=30",
    "listItems": "status=Failed&limit=20",
}


def routes() -> str:
    """Returns the Markdown of all groups of routes and of the error codes of the HTTP API."""
    paths = json.loads(DOCUMENT.read_text())["paths"]
    groups: dict[str, list[str]] = {}
    for path, methods in paths.items():
        for method, operation in methods.items():
            (group,) = operation["tags"]
            groups.setdefault(group, []).append(_route(method.upper(), path, operation))
    unknown = set(groups) - set(GROUPS)
    if unknown:
        raise SystemExit(f"http_reference.py: GROUPS has no title for {', '.join(sorted(unknown))}")
    parts = []
    for group, title in GROUPS.items():
        if group in groups:
            parts += [f"## {title}", *groups[group]]
    parts += ["## Problems", _problems()]
    return "\n\n".join(parts)


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    shown = path.removeprefix("/api/v1")
    lines = [f"### `{method} {shown}` {{ #{operation['operationId']} }}", ""]
    lines.append(f"{operation['summary']}. {operation.get('description', '')}".strip())
    if permission := operation.get("x-permission"):
        lines += ["", f"Permission: `{permission}`."]
    queries = [p for p in operation.get("parameters", ()) if p["in"] == "query"]
    queries = [p for p in queries if p["name"] != "tenant"]
    if queries:
        lines += ["", "| parameter | meaning |", "|---|---|"]
        for parameter in queries:
            name = parameter["name"]
            if "x-prefix" in parameter:
                name += ".PATH" if name == "input" else ".K"
            more = " Required." if parameter["required"] else ""
            lines.append(f"| `{name}` | {parameter['description']}{more} |")
    lines += ["", f"```bash\n{command(method, path, operation)}\n```"]
    answers = [
        f"`{status}`: {answer['description']}"
        for status, answer in operation["responses"].items()
        if status < "300"
    ]
    lines += ["", "Answers: " + " ".join(answers)]
    return "\n".join(lines)


def command(method: str, path: str, operation: dict[str, Any]) -> str:
    """Returns the curl command of a route, with `$URL`, `$TOKEN` and ids as variables."""
    task = "fetch" if operation["operationId"] in MAPS else "load"
    variables = {"{task}": task, "{name}": "etl", "{version}": "$VERSION"}
    group = operation["tags"][0]
    variables["{id}"] = {"schedules": "$SCHEDULE", "runners": "$RUNNER"}.get(group, "$ID")
    for name, value in variables.items():
        path = path.replace(name, value)
    query = QUERIES.get(operation["operationId"])
    url = f"$URL{path}?{query}" if query else f"$URL{path}"
    parts = ["curl -sS"]
    if method != "GET":
        parts.append(f"-X {method}")
    if operation["operationId"] == "streamChanges":
        parts.append("-N -m 1")
    if operation.get("security") != []:
        parts.append('-H "Authorization: Bearer $TOKEN"')
    if method != "GET":
        parts.append("-H 'Content-Type: application/json' -H 'X-Cloaca: 1'")
        if "requestBody" in operation:
            body = json.dumps(BODIES.get(operation["operationId"], {}))
            parts.append(f"-d '{body}'")
    parts.append(f'"{url}"')
    return " \\\n  ".join(parts)


def _problems() -> str:
    """Returns the table of the error codes that only the HTTP API uses."""
    text = PROBLEMS.read_text()
    table = text[text.index("pub const CODES") : text.index("];", text.index("pub const CODES"))]
    found = re.findall(r'\(\s*"(\w+)",\s*StatusCode::(\w+),\s*"([^"]+)",?\s*\)', table)
    from http import HTTPStatus

    own = {"PAYLOAD_TOO_LARGE": 413, "UNPROCESSABLE_ENTITY": 422}
    lines = ["| code | status | when |", "|---|---|---|"]
    for code, status, about in found:
        number = own.get(status) or HTTPStatus[status].value
        anchor = code.replace("_", "-")
        lines.append(f'| <span id="{anchor}"></span>`{code}` | {number} | {about} |')
    return "\n".join(lines)
