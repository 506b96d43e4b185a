"""Items that read results of other maps (J1, K4), and the forward key of an item (Q3)."""

from __future__ import annotations

import cloaca


def test_k4_items_read_all_results_of_another_map(runner):
    with cloaca.WorkflowBuilder("maps"):

        @cloaca.task(over="xs")
        def first(x: int) -> int:
            return x

        @cloaca.task(over="xs")
        def sums(x: int, first: list[int]) -> int:
            return x + sum(first)

        @cloaca.task(over="first")
        def aligned(first: int, sums: cloaca.MapResult[int]) -> int:
            return first + sum(sums.values())

        @cloaca.task(over="xs")
        async def optional(x: int, first: list[int] | None) -> object:
            return [x, first]

    result = runner.execute("maps", {"xs": [1, 2, 3]})
    assert result.of("sums") == [7, 8, 9]
    assert result.of("aligned") == [25, 26, 27]
    assert result.of("optional") == [[1, [1, 2, 3]], [2, [1, 2, 3]], [3, [1, 2, 3]]]


def test_q3_each_item_has_its_own_forward_key(runner):
    seen = []
    with cloaca.WorkflowBuilder("paid"):

        @cloaca.task(over="xs")
        def pay(x: int, handle) -> None:
            seen.append((x, handle.forward_key.partition("/")[2]))

        @cloaca.task(compensate=lambda other: None)
        def other() -> int:
            return 1

    runner.execute("paid", {"xs": [1, 2]})
    assert sorted(seen) == [(1, "pay[0]"), (2, "pay[1]")]
