"""Tutorial 07: coroutines as tasks, and executions that are followed, paused and cancelled."""

import asyncio
import math

import cloaca

PAGES = 200

with cloaca.WorkflowBuilder("crawl"):

    def page(number):
        async def fetch(context):
            await asyncio.sleep(0.1)  # stands for a call to another service
            return {"sizes": {str(number): number * 10}}

        return fetch

    pages = [cloaca.task(id=f"page_{number}")(page(number)) for number in range(PAGES)]

    @cloaca.task(dependencies=pages)
    def add_up(context):
        context["bytes"] = sum(context["sizes"].values())


with cloaca.WorkflowBuilder("approval"):

    @cloaca.task
    def ask(context):
        context["asked"] = "the boss"

    @cloaca.task(dependencies=[ask], timeout=math.inf)
    async def wait_for_answer(context, handle):
        await handle.defer_until(lambda: handle.execution_id in ANSWERS, poll_interval_ms=20)
        context["answer"] = ANSWERS[handle.execution_id]


ANSWERS = {}


async def main():
    async with cloaca.DefaultRunner("sqlite:///crawl.db") as runner:
        # Wait for one result. The pages are fetched at the same time.
        result = await runner.execute_async("crawl")
        print(f"{len(result.tasks)} tasks, {result.final_context['bytes']} bytes")
        print("faster than one after the other:", result.duration.total_seconds() < PAGES * 0.1)

        # Submit two executions at once, each with a handle.
        first, second = runner.submit_many([("approval", None), ("approval", None)])
        second.cancel()
        ANSWERS[first.id] = "yes"
        results = await asyncio.gather(first, second)
        print([str(result.status) for result in results])
        print(results[0].final_context["answer"])

        # Submit an execution that starts in an hour, then pause it and cancel it.
        later = runner.submit("approval", delay=3600)
        later.pause()
        print(later.status())
        print(later.cancel())


if __name__ == "__main__":
    asyncio.run(main())
