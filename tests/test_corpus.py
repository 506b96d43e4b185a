"""A runner migrates the databases of `tests/corpus` and completes their executions (I2).

The databases have older schemas. Each database was created by a process that was killed while a
task was running.
"""

from __future__ import annotations

import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

import cloaca
from corpus_workflows import define

CORPUS = Path(__file__).parent / "corpus"


def restored(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Restores a copy of a stored database, and returns the URL of the copy."""
    if path.suffix == ".db":
        copy = tmp_path / path.name
        shutil.copy(path, copy)
        return f"sqlite:///{copy}"
    server = request.getfixturevalue("postgres")
    name = f"t{uuid.uuid4().hex}"
    psql = ["psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"]
    subprocess.run([*psql, server, "--command", f"CREATE DATABASE {name}"], check=True)
    url = f"{server.rpartition('/')[0]}/{name}"
    subprocess.run([*psql, url, "--file", str(path)], check=True, stdout=subprocess.DEVNULL)
    return url


def test_the_corpus_has_a_database_of_each_kind():
    assert {path.suffix for path in CORPUS.iterdir()} == {".db", ".sql"}


@pytest.mark.parametrize("path", sorted(CORPUS.glob("schema_*")), ids=lambda path: path.name)
def test_i2_old_database_is_migrated_and_its_executions_complete(path, tmp_path, request):
    url = restored(path, tmp_path, request)
    define()
    with cloaca.DefaultRunner(url, cloaca.DefaultRunnerConfig(retention_days=None)) as runner:
        # A submission with a stored key returns the stored execution.
        keys = ["completed", "failed", "paused", "cancelled", "delayed", "running", "retrying"]
        handles = {key: runner.submit("corpus", {"number": 0}, key=key) for key in keys}
        assert len(list(runner.list_executions())) == len(keys)
        assert handles["paused"].status() == "Paused"
        results = {key: handles[key].result(timeout=60) for key in keys if key != "paused"}
        assert {key: str(result.status) for key, result in results.items()} == {
            "completed": "Completed",
            "failed": "Failed",
            "cancelled": "Cancelled",
            "delayed": "Completed",
            "running": "Completed",
            "retrying": "Completed",
        }
        assert handles["paused"].cancel()
        for key in ("running", "retrying"):
            number = 6 if key == "running" else 7
            context = results[key].final_context
            assert context["held"] == number * 10 + 1
            assert results[key].tasks["held"].attempts == 2
            assert "task_rescued" in {event.type for event in handles[key].events()}
        assert results["retrying"].final_context["attempt"] == 2
        assert results["failed"].error.task_id == "broken"
        assert results["completed"].final_context["last"] is True
