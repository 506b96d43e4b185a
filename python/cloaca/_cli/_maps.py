"""The maps of an execution, for `show`."""

from __future__ import annotations

from cloaca._cli._output import note, one_line, say, short_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._core import Reads

# Maximum number of failed items that are printed for each map.
_SHOWN = 5


class MapCounts:
    """The number of a map's items in each state, and the maximum number that may run at once."""

    def __init__(self, states: list[tuple[str, int]], parallel: int | None) -> None:
        self.states = dict(states)
        self.total = sum(self.states.values())
        self.parallel = parallel

    def __str__(self) -> str:
        """Returns the counts in words.

        The number of completed items out of all items comes first. The counts of the other states
        follow, unless they are 0. Pending items are not counted separately.
        """
        states = self.states
        parts = [f"{states['Completed']}/{self.total} done"]
        words = {
            "Failed": "failed",
            "Running": "running",
            "Ready": "waiting for a retry",
            "Skipped": "skipped",
            "Cancelled": "not run",
        }
        parts += [f"{states[name]} {word}" for name, word in words.items() if states.get(name)]
        if self.parallel is not None:
            parts.append(f"parallel {self.parallel}")
        return ", ".join(parts)

    def document(self) -> dict[str, Any]:
        """Returns the counts for `--json`."""
        return {"total": self.total, "states": self.states, "parallel": self.parallel}


def map_counts(reads: Reads, execution_id: str) -> dict[str, MapCounts]:
    """Returns the counts of each map that has expanded into its items, by the map's task."""
    maps = reads.maps(execution_id)
    return {task: MapCounts(states, parallel) for task, states, parallel in maps}


def print_failed_items(reads: Reads, execution_id: str, maps: dict[str, MapCounts]) -> None:
    """Prints the first failed items of each map, with their errors."""
    from cloaca._runner.map_methods import item_page

    for task, counts in maps.items():
        failed = counts.states["Failed"]
        if not failed:
            continue
        say(f"failed items of '{task}':")
        for item in item_page(reads, execution_id, task, "Failed", None, _SHOWN):
            say(f"  {task}[{item.index}]  {one_line(short_error(item.error))}")
        if failed > _SHOWN:
            note(f"{failed - _SHOWN} more: cloaca items {execution_id} {task} --status failed")
