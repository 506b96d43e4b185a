"""The weather pipeline: four years of daily weather in Seattle, from a table to a report.

    python pipeline.py DATABASE OUTPUT [--die-in TASK]

Starts the pipeline, or continues it if an earlier process died. To find the earlier execution, it
uses the name of the output folder as the key. With `--die-in` the process kills itself with SIGKILL
in the middle of that task, to simulate a crash.
"""

from __future__ import annotations

import argparse
import html
import os
import signal
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from vega_datasets import data

import cloaca

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
DIE_IN = ""


def journal(context: cloaca.Context, task: str, text: str) -> None:
    """Record which process ran which task. Kill the process in the task that `--die-in` names."""
    with Path(context["output"], "journal.tsv").open("a") as lines:
        lines.write(f"{os.getpid()}\t{task}\t{text}\n")
    time.sleep(0.15)  # slow enough for people to watch
    if task == DIE_IN:
        os.kill(os.getpid(), signal.SIGKILL)


def table(context: cloaca.Context) -> pd.DataFrame:
    """Read the cleaned table. It is in a file, and only the name of the file is in the context."""
    return pd.read_csv(context["clean_file"], parse_dates=["date"])


with cloaca.WorkflowBuilder("seattle_weather") as builder:
    builder.description("Four years of daily weather in Seattle, from the raw table to a report")
    builder.tag("data", "vega_datasets")

    @cloaca.task()
    def read(context: cloaca.Context) -> None:
        """Copy the raw table out of the package."""
        raw = data.seattle_weather()
        path = Path(context["output"], "raw.csv")
        raw.to_csv(path, index=False)
        context["raw_file"] = str(path)
        context["raw_rows"] = len(raw)
        journal(context, "read", f"{len(raw)} days")

    @cloaca.task(dependencies=[read])
    def clean(context: cloaca.Context) -> None:
        """Drop incomplete and implausible days, and duplicates."""
        raw = pd.read_csv(context["raw_file"], parse_dates=["date"])
        good = raw.dropna().drop_duplicates("date")
        good = good[(good.temp_max >= good.temp_min) & (good.precipitation >= 0)]
        good = good.assign(
            year=good.date.dt.year,
            month=good.date.dt.month,
            mean=(good.temp_max + good.temp_min) / 2,
        )
        path = Path(context["output"], "clean.csv")
        good.to_csv(path, index=False)
        context["clean_file"] = str(path)
        context["rows"] = len(good)
        context["first_day"], context["last_day"] = good.date.min().date(), good.date.max().date()
        journal(context, "clean", f"{len(raw) - len(good)} of {len(raw)} days dropped")

    @cloaca.task(dependencies=[clean])
    def temperature(context: cloaca.Context) -> None:
        """Compute the mean temperature of each month of the year, in degrees Celsius."""
        monthly = table(context).groupby("month")["mean"].mean().round(1)
        context["temperature"] = monthly.tolist()
        journal(context, "temperature", f"{monthly.min()} to {monthly.max()} °C")

    @cloaca.task(dependencies=[clean])
    def rain(context: cloaca.Context) -> None:
        """Compute the mean rain of each month of the year, in millimetres."""
        days = table(context)
        monthly = (days.groupby("month").precipitation.sum() / days.year.nunique()).round(1)
        context["rain"] = monthly.tolist()
        journal(context, "rain", f"{monthly.sum():.0f} mm a year")

    @cloaca.task(dependencies=[clean])
    def kinds(context: cloaca.Context) -> None:
        """Count the days of each kind of weather."""
        counts = table(context).weather.value_counts()
        context["kinds"] = {str(kind): int(count) for kind, count in counts.items()}
        journal(context, "kinds", f"{counts.index[0]} on {counts.iloc[0]} days")

    @cloaca.task(dependencies=[clean])
    def trend(context: cloaca.Context) -> None:
        """Fit a straight line to the temperatures without their seasonal part."""
        days = table(context)
        season = days.groupby("month")["mean"].transform("mean")
        years = (days.date - days.date.min()).dt.days / 365.25
        slope, start = np.polyfit(years, days["mean"] - season, 1)
        context["trend"] = {"per_year": round(float(slope), 3), "start": round(float(start), 3)}
        journal(context, "trend", f"{slope:+.2f} °C a year")

    @cloaca.task(dependencies=[temperature, rain, trend])
    def plot(context: cloaca.Context) -> None:
        """Draw the picture of the report."""
        figure, left = plt.subplots(figsize=(8, 3.6), layout="constrained")
        right = left.twinx()
        left.bar(MONTHS, context["rain"], color="#8fb8de", label="rain")
        right.plot(MONTHS, context["temperature"], color="#d1495b", linewidth=2.5, marker="o")
        left.set_ylabel("rain, mm a month", color="#4a7ba6")
        right.set_ylabel("mean temperature, °C", color="#d1495b")
        per_year = context["trend"]["per_year"]
        left.set_title(
            f"Seattle, {context['first_day'][:4]} to {context['last_day'][:4]}: "
            f"trend {per_year:+.2f} °C a year"
        )
        for axis in (left, right):
            axis.spines[["top"]].set_visible(False)
        path = Path(context["output"], "weather.svg")
        figure.savefig(path)
        plt.close(figure)
        context["plot_file"] = str(path)
        journal(context, "plot", path.name)

    @cloaca.task(dependencies=[plot, kinds])
    def report(context: cloaca.Context) -> None:
        """Write the page with the picture and the figures."""
        rows = "".join(
            f"<tr><td>{month}</td><td>{warm:.1f}</td><td>{wet:.1f}</td></tr>"
            for month, warm, wet in zip(
                MONTHS, context["temperature"], context["rain"], strict=True
            )
        )
        kinds_text = ", ".join(
            f"{html.escape(kind)} on {days} days" for kind, days in context["kinds"].items()
        )
        svg = Path(context["plot_file"]).read_text()
        page = f"""<!doctype html><meta charset="utf-8"><title>Weather in Seattle</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto;
         padding: 0 1rem; color: #222; background: #fff }}
  svg {{ max-width: 100%; height: auto }} table {{ border-collapse: collapse }}
  td, th {{ padding: .2rem 1.2rem .2rem 0; text-align: right }}
  td:first-child, th:first-child {{ text-align: left }}
  tr + tr {{ border-top: 1px solid #ddd }}
</style>
<h1>Weather in Seattle</h1>
<p>{context["rows"]} days from {context["first_day"]} to {context["last_day"]}: {kinds_text}.</p>
{svg[svg.index("<svg") :]}
<table><tr><th>month</th><th>°C</th><th>mm</th></tr>{rows}</table>
"""
        path = Path(context["output"], "report.html")
        path.write_text(page)
        context["report_file"] = str(path)
        journal(context, "report", path.name)


def main() -> None:
    """Run the pipeline, or continue it."""
    global DIE_IN
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("database")
    parser.add_argument("output", type=Path)
    parser.add_argument("--die-in", default="")
    options = parser.parse_args()
    DIE_IN = options.die_in
    with cloaca.DefaultRunner(options.database) as runner:
        context = cloaca.Context({"output": str(options.output)})
        # The key makes this call safe to repeat: a second process joins the first one's execution.
        result = runner.submit("seattle_weather", context, key=options.output.name).result()
        result.raise_for_status()


if __name__ == "__main__":
    main()
