"""Measures the workloads against the limits of this machine: `make bench`.

    python benchmarks/run.py [--quick] [--only W1,W2,…] [--json FILE]

Each workload runs in a process of its own, on a database of its own. The limits (see
`benchmarks/limits`) are measured in the same run: what counts is the ratio to them, since machines
differ and drift.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# What a workload's figure is compared with: (its limit, the share of the limit that is the target).
#   W1: a chain of three costs four commits; the figure is a time, so less is better.
TARGETS = {"W1": 1.5, "W2": 0.35, "W2-threads": 0.35, "W3": 0.35}


def limits(directory: Path, *, quick: bool) -> dict[str, Any]:
    """Build and run the Rust program that measures what the database can do."""
    manifest = HERE / "limits" / "Cargo.toml"
    build = ["cargo", "build", "--release", "--quiet", "--manifest-path", str(manifest)]
    subprocess.run(build, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)})
    command = [str(TARGET / "release" / "cloacina-limits"), "--sqlite", str(directory)]
    output = subprocess.run(
        command + (["--quick"] if quick else []), check=True, stdout=subprocess.PIPE
    ).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def run(workload: str, directory: Path, *, quick: bool) -> dict[str, Any]:
    """Run one workload in a fresh process."""
    command = [sys.executable, str(HERE / "workloads.py"), workload, str(directory)]
    if quick:
        command.append("--quick")
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def ratio(workload: str, figures: dict[str, Any], limit: dict[str, Any]) -> float | None:
    """The figure as a multiple of its limit."""
    commit_us = limit["commit"]["p50_us"]
    if workload == "W1":
        return float(figures["p50_us"] / (4 * commit_us))
    if workload.startswith("W2"):
        return float(figures["executions_per_s"] / limit["W2"]["executions_per_s"])
    if workload == "W3":
        return float(figures["tasks_per_s"] / limit["W3"]["tasks_per_s"])
    return None


def row(workload: str, figures: dict[str, Any], limit: dict[str, Any]) -> str:
    """One line of the table."""
    shown = ", ".join(
        f"{name} {value:,.1f}" for name, value in figures.items() if isinstance(value, int | float)
    )
    share = ratio(workload, figures, limit)
    if share is None:
        return f"{workload:11} {shown}"
    target = TARGETS[workload]
    met = share <= target if workload == "W1" else share >= target
    verdict = "met" if met else "missed"
    judged = f"{share:.2f} of the limit; target {target} of the limit: {verdict}"
    return f"{workload:11} {shown}\n{'':11} {judged}"


def main() -> None:
    """Measure, print one table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller workloads, for a smoke test")
    parser.add_argument("--only", default="W1,W2,W2-threads,W3,W5", help="which workloads")
    parser.add_argument("--json", type=Path, default=HERE / "results.json", help="where to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-", dir=TARGET) as folder:
        directory = Path(folder)
        measured = limits(directory, quick=options.quick)
        limit = simplify(measured)
        print(
            f"limits      commit {limit['commit']['p50_us']:.0f} us, "
            f"W2 rows {limit['W2']['executions_per_s']:,.0f} executions/s, "
            f"W3 rows {limit['W3']['tasks_per_s']:,.0f} tasks/s"
        )
        results: dict[str, Any] = {}
        for workload in options.only.split(","):
            results[workload] = run(workload, directory, quick=options.quick)
            share = ratio(workload, results[workload], limit)
            if share is not None:
                results[workload]["ratio_to_limit"] = round(share, 3)
            print(row(workload, results[workload], limit), flush=True)
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "sqlite": {"limit": limit, "workloads": results},
    }
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    peers = HERE / "peers.json"
    if peers.exists():
        from peers.table import table

        print("\n" + table(json.loads(peers.read_text())))


def simplify(measured: dict[str, Any]) -> dict[str, Any]:
    """The three figures that the workloads are compared with, for SQLite with synchronous=FULL."""
    limit = measured["sqlite"]["limit"]
    return {
        "commit": {"p50_us": limit["commit_us"]},
        "W2": {"executions_per_s": limit["W2"]["executions_per_s"]},
        "W3": {"tasks_per_s": limit["W3"]["tasks_per_s"]},
    }


if __name__ == "__main__":
    main()
