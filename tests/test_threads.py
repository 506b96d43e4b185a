"""Many threads use one runner at the same time."""

from __future__ import annotations

import random
import threading
import time

import cloaca


def test_32_threads_submit_cancel_and_read_for_ten_seconds(runner):
    with cloaca.WorkflowBuilder("busy"):

        @cloaca.task(id="first")
        def first(context):
            context["n"] = context["number"] + 1

        @cloaca.task(id="second", dependencies=["first"])
        def second(context):
            context["n"] += 1

    errors: list[BaseException] = []
    ends: dict[str, tuple[int, bool]] = {}
    lock = threading.Lock()
    stop = time.monotonic() + 10

    def work(seed: int) -> None:
        choose = random.Random(seed)
        try:
            while time.monotonic() < stop:
                number = choose.randrange(1000)
                handle = runner.submit("busy", {"number": number})
                cancelled = choose.random() < 0.3
                if cancelled:
                    cancelled = handle.cancel()  # `False` if the execution had already ended.
                handle.status()
                result = handle.result(timeout=60)
                assert result.status == ("Cancelled" if cancelled else "Completed")
                with lock:
                    ends[handle.id] = (number, cancelled)
                if choose.random() < 0.1:
                    assert runner.list_executions(limit=5).items
                    assert runner.get_execution(handle.id).status == result.status
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert len(ends) > 100
    # The database agrees with the results of the calls, so no update was lost.
    for id, (number, cancelled) in ends.items():
        stored = runner.get_execution(id)
        assert stored.status == ("Cancelled" if cancelled else "Completed")
        if not cancelled:
            assert stored.final_context["n"] == number + 2
