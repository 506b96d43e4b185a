"""Typed tasks: values by name, an input that is validated, and a result with a type."""

from dataclasses import dataclass
from decimal import Decimal

import cloaca


@dataclass
class Row:
    article: str
    price: Decimal


@dataclass
class Total:
    amount: Decimal


class Mailer:
    def send(self, text):
        print("sent:", text)


with cloaca.WorkflowBuilder(
    "order", input={"order_id": str, "articles": list[str]}, output="total"
):

    @cloaca.task
    def rows(articles: list[str]) -> list[Row]:
        return [Row(article, Decimal("9.50")) for article in articles]

    @cloaca.task
    def total(rows: list[Row], tax: Decimal = Decimal("0.20")) -> Total:
        return Total(sum((row.price for row in rows), Decimal(0)) * (1 + tax))

    @cloaca.task
    def mail(
        order_id: str,
        total: Total = cloaca.result(total),
        mailer: Mailer = cloaca.resource(Mailer),
    ) -> None:
        mailer.send(f"{order_id} costs {total.amount}")


if __name__ == "__main__":
    with cloaca.DefaultRunner("sqlite:///order.db") as runner:
        result = runner.execute("order", {"order_id": "o-1", "articles": ["pen", "ink"]})
        print(result.output)
        print(result.of(rows)[1])
