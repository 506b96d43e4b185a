"""Waits: a payment, an approval and a time."""

import time

import cloaca

with cloaca.WorkflowBuilder("payment"):

    @cloaca.task
    def invoice(order_id: str) -> str:
        return f"invoice of {order_id}"

    @cloaca.task(
        dependencies=[invoice],
        wait_for=cloaca.signal("paid", key="order_id"),
        wait_timeout="30d",
    )
    def book(paid: dict, invoice: str) -> str:
        return f"{invoice}: {paid['amount']} paid"


with cloaca.WorkflowBuilder("release"):

    @cloaca.task
    def report(order_id: str) -> str:
        return f"report of {order_id}"

    cloaca.approval("approve", dependencies=[report], timeout="48h", title="Release {order_id}?")

    @cloaca.task
    def publish(report: str, approve: dict) -> str:
        return f"{report}, released by {approve['by']}"


with cloaca.WorkflowBuilder("cool_down"):
    cloaca.wait("pause", wait_for=cloaca.any_of(cloaca.delay("1h"), cloaca.signal("go")))

    @cloaca.task
    def resume(pause: dict) -> str:
        return "told to go" if "go" in pause else "an hour is over"


if __name__ == "__main__":
    with cloaca.DefaultRunner("sqlite:///waiting.db") as runner:
        payment = runner.submit("payment", {"order_id": "order-42"})
        runner.send("paid", {"amount": 3}, key="order-42")
        print(payment.result().final_context["book"])

        release = runner.submit("release", {"order_id": "o-7"})
        while not (waits := list(runner.waits(kind="approval"))):
            time.sleep(0.01)
        for wait in waits:
            print(wait.title)
            runner.approve(wait.execution_id, wait.task_id, by="ann")
        print(release.result().final_context["publish"])

        cool_down = runner.submit("cool_down")
        runner.send("go", to=cool_down)
        print(cool_down.result().final_context["resume"])
