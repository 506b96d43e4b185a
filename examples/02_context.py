"""Tutorial 02: how data goes from task to task."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import cloaca


@dataclass
class Order:
    customer: str
    price: Decimal


with cloaca.WorkflowBuilder("invoice"):

    @cloaca.task
    def read_order(context):
        context["order"] = Order("Ada", Decimal("12.50"))
        context["ordered_on"] = date(2026, 1, 1)
        context["raw"] = "customer=Ada;price=12.50"

    @cloaca.task(dependencies=[read_order])
    def check_credit(context):
        del context["raw"]
        return {"checks": {"credit": "good"}, "notes": ["old customer", "pays on time"]}

    @cloaca.task(dependencies=[read_order])
    def check_stock(context):
        return {"checks": {"stock": 3}, "notes": ["old customer", "order more soon"]}

    @cloaca.task(dependencies=[check_credit, check_stock])
    def decide(context):
        checks = context["checks"]
        context["accepted"] = checks["credit"] == "good" and checks["stock"] > 0


if __name__ == "__main__":
    with cloaca.DefaultRunner("sqlite:///invoice.db") as runner:
        result = runner.execute("invoice", {"order_number": 7})
        for key, value in result.final_context.items():
            print(f"{key}: {value!r}")
