"""Tutorial 03: a fan-out, a fan-in, a branch, a failure that is handled, and a clean-up."""

import cloaca

REGIONS = ["north", "south", "west"]

with cloaca.WorkflowBuilder("sales") as builder:

    @cloaca.task
    def prepare(context):
        context["folder"] = "/tmp/sales"

    def count_region(region):
        def count(context):
            sold = context["input"][region]
            if sold < 0:
                raise ValueError(f"{region} cannot have sold {sold}")
            return {"sold": {region: sold}}

        return count

    counted = [
        cloaca.task(id=f"count_{region}", dependencies=[prepare], retry_attempts=1)(
            count_region(region)
        )
        for region in REGIONS
    ]

    @cloaca.task(dependencies=counted)
    def total(context):
        context["total"] = sum(context["sold"].values())

    @cloaca.task(
        dependencies=[total],
        trigger_rules=cloaca.all_of(
            cloaca.task_success("total"), cloaca.context_value("total", ">=", 100)
        ),
    )
    def celebrate(context):
        context["party"] = True

    @cloaca.task(dependencies=counted, trigger_rule="one_failed")
    def apologise(context):
        context["apology"] = "the numbers of a region are missing"

    @cloaca.task(dependencies=[total, apologise], trigger_rule="always")
    def clean_up(context):
        context["cleaned"] = True


def show(result):
    print(result.status)
    for task_id, task in result.tasks.items():
        print(f"  {task_id:12} {task.status:10} {task.skip_reason or ''}".rstrip())


if __name__ == "__main__":
    with cloaca.DefaultRunner("sqlite:///sales.db") as runner:
        print("a good day:", end=" ")
        show(runner.execute("sales", {"input": {"north": 70, "south": 20, "west": 40}}))
        print("a bad one:", end=" ")
        show(runner.execute("sales", {"input": {"north": 70, "south": -1, "west": 40}}))
