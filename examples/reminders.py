"""Reminds a customer of an invoice every three days, until it is paid or somebody must call."""

import cloaca
from cloaca.testing import VirtualRunner

REMINDERS = 3


def send_mail(address: str, number: int) -> None:
    print(f"reminder {number} to {address}")


@cloaca.workflow
def remind(invoice: str, address: str, handle: cloaca.TaskHandle) -> str:
    for number in range(1, REMINDERS + 1):
        handle.step(f"mail {number}", send_mail, address, number)
        try:
            paid = cloaca.signal("paid", key=invoice)
            return f"paid: {handle.wait(f'answer {number}', paid, timeout='3d')}"
        except cloaca.WaitTimeoutError:
            continue
    return "call the customer"


if __name__ == "__main__":
    unpaid = {"invoice": "i-1", "address": "ann@example.com"}
    # With the virtual clock, a wait of several days takes no real time.
    with VirtualRunner() as runner:
        handle = runner.submit("remind", unpaid)
        runner.advance(4 * 86_400)
        runner.send("paid", "EUR 12", key="i-1")
        print(handle.result().output)

    with VirtualRunner() as runner:
        begin = runner.now()
        print(runner.execute("remind", unpaid).output)
        print(round((runner.now() - begin) / 86_400), "days later")

    with cloaca.DefaultRunner("sqlite:///reminders.db") as runner:
        handle = runner.submit("remind", unpaid)
        runner.send("paid", "EUR 12", key="i-1")
        print(handle.result().output)
