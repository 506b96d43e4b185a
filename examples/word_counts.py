"""Counts the words of Python's own help texts on all cores: a map, and a task that adds up."""

import multiprocessing
import os
import re
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pydoc_data.topics import topics

import cloaca


def count_words(names: list[str]) -> dict[str, int]:
    words: Counter[str] = Counter()
    for name in names:
        words.update(re.findall(r"[a-z]+", topics[name].lower()))
    return words


def open_processes() -> ProcessPoolExecutor:
    """Returns processes that count, because Python runs only one thread at a time."""
    return ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"))


with cloaca.WorkflowBuilder("words", output="words"):

    @cloaca.task
    def texts() -> list[str]:
        return sorted(topics)

    # An item counts up to 20 texts, so that it takes longer than its commit.
    @cloaca.task(over=texts, batch=20, parallel=os.cpu_count())
    def counts(
        names: list[str],
        processes: ProcessPoolExecutor = cloaca.resource(open_processes),
    ) -> dict[str, int]:
        return processes.submit(count_words, names).result()

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
    print(f"{len(topics)} texts in {items[cloaca.TaskStatus.COMPLETED]} items")
    print("the most frequent word:", next(iter(result.output)))
    assert result.output == dict(Counter(count_words(sorted(topics))).most_common(1000))
