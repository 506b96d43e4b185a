"""For requests that schemathesis generates, the API responds as its OpenAPI document says."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cloaca
import cloaca.web
from web_support import TOKEN, Filled

hypothesis = pytest.importorskip("hypothesis")
schemathesis = pytest.importorskip("schemathesis")

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = json.loads((ROOT / "crates" / "cloacina-web" / "openapi.json").read_text())
# All paths except the stream, whose response does not end.
PATHS = [path for path in DOCUMENT["paths"] if not path.endswith("/stream")]
ROUTES = [
    f"{method.upper()} {path}"
    for path in PATHS
    for method in DOCUMENT["paths"][path]
    if method in ("get", "post", "put", "patch", "delete")
]
#: Maximum number of requests for each route.
EXAMPLES = 12 * int(os.environ.get("CLOACINA_FUZZ", "1"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Filled, str]]:
    """A database with executions and a schedule, and the address of the database's API."""
    filled = Filled(f"sqlite:///{tmp_path_factory.mktemp('contract') / 'contract.db'}")
    # Other test modules do not share this database, because the requests can disable, change or
    # delete the schedule.
    with cloaca.web.serve(filled.url, token=TOKEN) as server:
        yield filled, server.url.rstrip("/")
    filled.close()


@pytest.mark.parametrize("route", ROUTES)
def test_route_answers_as_documented(route: str, served: tuple[Filled, str]) -> None:
    filled, url = served
    method, path = route.split(" ")
    schema = schemathesis.openapi.from_dict(DOCUMENT)
    operation = schema[path][method]
    # In many requests, the id of an existing object replaces the generated id.
    ids = [filled.completed, filled.failed] if "/executions/" in path else [filled.schedule]

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(
        case=operation.as_strategy(),
        known=hypothesis.strategies.sampled_from([None, *ids]),
    )
    def check(case: Any, known: str | None) -> None:
        if known is not None and "id" in case.path_parameters:
            case.path_parameters["id"] = known
        if known is not None and "task" in case.path_parameters:
            case.path_parameters["task"] = "extract"
        if known is not None and "name" in case.path_parameters:
            case.path_parameters["name"] = "web_etl"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        case.call_and_validate(base_url=url, headers=headers, excluded_checks=EXCLUDED_CHECKS)

    check()


schemathesis.checks.load_all_checks()

#: The checks of schemathesis that do not apply. Other tests check `X-Cloaca`, `Content-Type` and
#: the token. The API can refuse a request that matches the schema, because names of tenants, cron
#: expressions and times have rules that a schema cannot express.
EXCLUDED_CHECKS = [
    schemathesis.checks.CHECKS.get_one(name)
    for name in (
        "missing_required_header",
        "ignored_auth",
        "unsupported_method",
        "positive_data_acceptance",
    )
]
