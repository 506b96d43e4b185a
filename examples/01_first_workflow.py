"""Tutorial 01: three tasks that count the orders of a day."""

import cloaca

with cloaca.WorkflowBuilder("orders") as builder:
    builder.description("Count the orders of a day")

    @cloaca.task
    def fetch(context):
        context["orders"] = [
            {"customer": "Ada", "cents": 1250},
            {"customer": "Grace", "cents": 800},
            {"customer": "Ada", "cents": 450},
        ]

    @cloaca.task(dependencies=[fetch])
    def total(context):
        context["total_cents"] = sum(order["cents"] for order in context["orders"])

    @cloaca.task(dependencies=[total])
    def report(context):
        count, cents = len(context["orders"]), context["total_cents"]
        context["report"] = f"{context['day']}: {count} orders, {cents / 100:.2f} in all"


if __name__ == "__main__":
    with cloaca.DefaultRunner("sqlite:///orders.db") as runner:
        result = runner.execute("orders", {"day": "2026-01-01"})
        print(result.status, "-", result.final_context["report"])
        for task_id, task in result.tasks.items():
            print(f"{task_id:8} {task.status} after {task.attempts} attempt")
