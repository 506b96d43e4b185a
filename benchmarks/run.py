"""Measures the workloads against the limits of this machine: `make bench`.

    python benchmarks/run.py [--quick] [--only W1,W2,…] [--on sqlite,postgres] [--no-limits]
        [--rust-profile PROFILE] [--json FILE]

Each workload runs in a separate process on a separate database: SQLite files, and databases of a
private PostgreSQL server, both with their default durability. The same run measures the limits of
the databases (see `benchmarks/limits`). The ratio to the limit is the important result, because
machines differ and their speed changes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SERVER = ROOT / "scripts" / "private_postgres.sh"

ORDER = ["W1", "W2", "W2-threads", "W3", "W4", "W5", "W6", "W7", "W8", "W9", "W10", "W11"]
ORDER += ["W12", "W12-processes", "W13", "W14", "W15", "W18", "W19", "load", "fair", "memory"]

#: Targets for the ratio of a workload's first figure to its limit. A target is a maximum for W1,
#: W13 and W14, whose figures are times, and a minimum for the other workloads. The limits of times:
#:   W1: four commits, because a chain of three tasks needs four.
#:   W13: one commit for each step.
#:   W14: two commits, for sending a signal and for claiming the woken task, and 300 us.
SHARES = {"W1": 1.5, "W13": 1.3, "W14": 1, "W2": 0.35, "W2-threads": 0.35, "W3": 0.35}

#: Targets of other figures, by database, workload and figure.
AT_MOST = {
    ("sqlite", "W4", "more_than_w1_us"): 3000,
    ("postgres", "W4", "more_than_w1_us"): 3000,
    ("sqlite", "W5", "first_result_ms"): 120,
    ("sqlite", "W5", "import_ms"): 20,
    ("sqlite", "W5", "memory_mb"): 40,
    ("sqlite", "W5", "idle_cpu_percent"): 0.3,
    ("postgres", "W5", "idle_queries_per_s"): 0.5,
    ("sqlite", "W8", "resumed_after_s"): 2,
    ("postgres", "W8", "resumed_after_s"): 2,
    ("postgres", "W10", "start_elsewhere_p50_ms"): 10,
    ("sqlite", "W14", "idle_cpu_percent"): 0.3,
    ("postgres", "W14", "idle_queries_per_s"): 0.5,
    ("postgres", "W14", "send_elsewhere_p50_ms"): 5,
    ("sqlite", "W19", "list_p95_ms"): 50,
    ("postgres", "W19", "list_p95_ms"): 80,
    **{
        (database, *figure): most
        for database in ("sqlite", "postgres")
        for figure, most in {
            ("W12", "memory_mb"): 200,
            ("W12", "late_p99_ms"): 10,
            ("W12-processes", "memory_mb"): 200,
            ("W12-processes", "late_p99_ms"): 10,
            ("W13", "resume_ms"): 100,
            ("W7", "in_many_s"): 0.5,
            ("W7", "in_one_s"): 0.5,
            ("load", "p99_of_idle_p50"): 10,
            ("fair", "urgent_p99_ms"): 50,
            ("fair", "tick_max_ms"): 50,
            ("fair", "heartbeat_late_max_ms"): 50,
            ("W19", "scan_p95_ms"): 250,
            ("W19", "home_p95_ms"): 150,
            ("memory", "memory_mb"): 200,
            ("memory", "grown_mb"): 5,
        }.items()
    },
}
AT_LEAST = {
    ("sqlite", "W4", "executions_per_s"): 1000,
    ("postgres", "W4", "executions_per_s"): 400,
    ("sqlite", "W9", "of_one_process"): 0.7,
    ("postgres", "W10", "of_one_process"): 1.0,
    ("sqlite", "W6", "of_empty"): 0.9,
    ("postgres", "W6", "of_empty"): 0.9,
    ("sqlite", "W12", "of_w11"): 1.0,
    ("postgres", "W12", "of_w11"): 1.0,
    ("sqlite", "W12-processes", "of_w11"): 1.0,
    ("postgres", "W12-processes", "of_w11"): 1.0,
    ("sqlite", "W15", "of_w2"): 0.5,
    ("postgres", "W15", "of_w2"): 0.5,
    ("sqlite", "W19", "w2_beside_page"): 0.98,
    ("postgres", "W19", "w2_beside_page"): 0.98,
}

Figures = dict[str, Any]


def limits(places: dict[str, str], *, quick: bool) -> Figures:
    """Builds and runs the Rust program that measures the limits of the databases."""
    manifest = HERE / "limits" / "Cargo.toml"
    build = ["cargo", "build", "--release", "--quiet", "--manifest-path", str(manifest)]
    subprocess.run(build, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(TARGET)})
    command = [str(TARGET / "release" / "cloacina-limits")]
    for database, where in places.items():
        command += [f"--{database}", where]
    output = subprocess.run(
        command + (["--quick"] if quick else []), check=True, stdout=subprocess.PIPE
    ).stdout
    measured: Figures = json.loads(output)
    return {database: measured[database]["limit"] for database in places}


def run(workload: str, where: str, *, quick: bool) -> Figures:
    """Runs one workload in a new process."""
    command = [sys.executable, str(HERE / "workloads.py"), workload, where]
    if quick:
        command.append("--quick")
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    figures: Figures = json.loads(output)
    return figures


def rust_tasks(url: str, profile: str, *, quick: bool) -> Figures:
    """Measures W1 to W3 with Rust tasks, using the example `workloads` of the crate."""
    build = ["cargo", "build", "--quiet", "--package", "cloacina", "--example", "workloads"]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}
    subprocess.run([*build, "--profile", profile], check=True, cwd=ROOT, env=environment)
    folder = "debug" if profile == "dev" else profile
    program = TARGET / folder / "examples" / "workloads"
    command = [str(program), url]
    output = subprocess.run(
        command + (["--quick"] if quick else []), check=True, stdout=subprocess.PIPE
    ).stdout
    figures: Figures = json.loads(output)
    return figures


def python_share(workload: str, python: Figures, rust: Figures) -> float:
    """Returns the share of a workload's time that Rust tasks save, compared to Python tasks."""
    if workload == "W1":
        return float(1 - rust["p50_us"] / python["p50_us"])
    per_s = "tasks_per_s" if workload == "W3" else "executions_per_s"
    return float(1 - python[per_s] / rust[per_s])


def ratio(workload: str, figures: Figures, limit: Figures) -> float | None:
    """Returns the ratio of the workload's first figure to its limit; `None` without a limit."""
    if workload == "W1":
        return float(figures["p50_us"] / (4 * limit["commit_us"]))
    if workload == "W13":
        return float(figures["step_us"] / limit["commit_us"])
    if workload == "W14":
        return float(figures["send_p50_us"] / (2 * limit["commit_us"] + 300))
    if workload in ("W2", "W2-threads"):
        return float(figures["executions_per_s"] / limit[workload]["executions_per_s"])
    if workload in ("W3", "W11"):
        return float(figures["tasks_per_s"] / limit["W3"]["tasks_per_s"])
    return None


def row_ratios(workload: str, figures: Figures, limit: Figures) -> Figures:
    """Returns further ratios to the speed of a program that only writes the workload's rows.

    Only W1, W2-threads and W13 have such ratios.
    """
    if workload == "W1":
        chain_us = 4e6 / limit["W1"]["executions_per_s"]
        return {"of_rows_one_by_one": round(figures["p50_us"] / chain_us, 3)}
    if workload == "W2-threads":
        in_hundreds = figures["executions_per_s"] / limit["W2"]["executions_per_s"]
        return {"of_rows_in_hundreds": round(in_hundreds, 3)}
    if workload == "W13":
        # A step writes as many rows as the end of a task.
        return {"of_task_rows": round(figures["steps_per_s"] / limit["W3"]["tasks_per_s"], 3)}
    return {}


def verdicts(database: str, workload: str, figures: Figures) -> Iterator[str]:
    """Yields the ratio to the limit, and the workload's targets with whether they are met."""
    share, target = figures.get("ratio_to_limit"), SHARES.get(workload)
    if share is not None:
        verdict = ""
        if target is not None:
            is_time = workload in ("W1", "W13", "W14")
            met = share <= target if is_time else share >= target
            bound = "at most" if is_time else "at least"
            verdict = f" (target {bound} {target}: {'met' if met else 'missed'})"
        yield f"ratio to the limit {share:.2f}{verdict}"
    for name, figure in figures.items():
        most, least = (
            AT_MOST.get((database, workload, name)),
            AT_LEAST.get((database, workload, name)),
        )
        if most is not None:
            yield f"{name}: target at most {most}: {'met' if figure <= most else 'missed'}"
        if least is not None:
            yield f"{name}: target at least {least}: {'met' if figure >= least else 'missed'}"


def show(database: str, workload: str, figures: Figures, language: str = "") -> None:
    """Prints the figures of a workload as one line, and its targets as another line."""
    shown = ", ".join(
        f"{name} {value:,.1f}" if value >= 10 else f"{name} {value:,.3f}"
        for name, value in figures.items()
        if isinstance(value, int | float) and name != "ratio_to_limit"
    )
    print(f"{database:9} {f'{workload} {language}':11} {shown}")
    judged = "; ".join(verdicts(database, workload, figures))
    if judged:
        print(f"{'':21} {judged}", flush=True)


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Starts a private PostgreSQL server with the default durability, and yields its URL."""
    # The server runs as another user, who needs access to the folder.
    folder = Path(tempfile.mkdtemp(prefix="cloaca-bench-", dir=os.environ.get("CLOACA_BENCH_DIR")))
    folder.chmod(0o755)
    try:
        started = subprocess.run(
            [str(SERVER), "start", str(folder)], check=True, stdout=subprocess.PIPE, text=True
        )
        yield started.stdout.strip()
    finally:
        subprocess.run([str(SERVER), "stop", str(folder), "immediate"], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def processor() -> str:
    """Returns the processor's name, if the system reports it."""
    with contextlib.suppress(OSError), Path("/proc/cpuinfo").open() as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def main() -> None:
    """Measures the workloads, prints their figures, and writes the figures to a file.

    Then prints the table of the last `make bench-peers`, if there is one.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller workloads, for a smoke test")
    parser.add_argument("--only", default=",".join(ORDER), help="names of workloads")
    parser.add_argument("--on", default="sqlite,postgres", help="kinds of databases")
    parser.add_argument("--no-limits", action="store_true", help="measure without the limits")
    parser.add_argument("--rust-profile", default="release", help="cargo profile of the Rust tasks")
    parser.add_argument("--json", type=Path, default=HERE / "results.json", help="figures file")
    options = parser.parse_args()
    databases, workloads = options.on.split(","), options.only.split(",")
    report: Figures = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {
            "cpus": os.cpu_count(),
            "processor": processor(),
            "python": platform.python_version(),
        },
    }
    TARGET.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        places: dict[str, str] = {}
        if "sqlite" in databases:
            folder = tempfile.TemporaryDirectory(prefix="bench-", dir=TARGET)
            places["sqlite"] = stack.enter_context(folder)
        if "postgres" in databases:
            places["postgres"] = stack.enter_context(server())
        measured = {} if options.no_limits else limits(places, quick=options.quick)
        for database, where in places.items():
            limit = measured.get(database)
            if limit is not None:
                print(
                    f"{database:9} limits      commit {limit['commit_us']:.0f} us, "
                    f"W2 rows {limit['W2']['executions_per_s']:,.0f} executions/s, "
                    f"W3 rows {limit['W3']['tasks_per_s']:,.0f} tasks/s",
                    flush=True,
                )
            results: dict[str, Figures] = {}
            for workload in workloads:
                figures = results[workload] = run(workload, where, quick=options.quick)
                share = None if limit is None else ratio(workload, figures, limit)
                if share is not None:
                    figures["ratio_to_limit"] = round(share, 3)
                if limit is not None:
                    figures |= row_ratios(workload, figures, limit)
                show(database, workload, figures)
            url = where if database == "postgres" else f"sqlite:///{Path(where) / 'rust.db'}"
            # The Rust example always measures all three workloads.
            wanted = {"W1", "W2", "W3"} & set(workloads)
            rust = rust_tasks(url, options.rust_profile, quick=options.quick) if wanted else {}
            for workload, figures in rust.items():
                share = None if limit is None else ratio(workload, figures, limit)
                if share is not None:
                    figures["ratio_to_limit"] = round(share, 3)
                show(database, workload, figures, "in Rust")
                if workload in results:
                    part = python_share(workload, results[workload], figures)
                    results[workload]["share_of_python"] = round(part, 3)
                    print(f"{'':21} the share of Python in the cost of {workload}: {part:.0%}")
            report[database] = {"limit": limit, "workloads": results, "rust_workloads": rust}
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    peers = HERE / "peers.json"
    if peers.exists():
        from peers.table import table

        print("\n" + table(json.loads(peers.read_text())))


if __name__ == "__main__":
    main()
