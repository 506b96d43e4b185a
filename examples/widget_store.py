"""DBOS's widget store, written with cloaca: a checkout that waits for payment, then packs."""

import sqlite3
import threading
import time

import cloaca

PARCELS = 3
WIDGETS = 2

store = sqlite3.connect("store.sqlite", check_same_thread=False)
store.execute(
    "CREATE TABLE IF NOT EXISTS orders"
    " (id TEXT PRIMARY KEY, status TEXT, progress INTEGER, has_widget INTEGER)"
)
lock = threading.Lock()


def change(sql, *values):
    with lock, store:
        return store.execute(sql, values).rowcount


# If the process dies during a step, the step runs again. So each of the following functions has the
# same effect if it runs twice: for example, an order never reserves a second widget.


def create_order(order):
    change("INSERT OR IGNORE INTO orders VALUES (?, 'PENDING', 0, 0)", order)


def reserve_widget(order):
    changed = change(
        "UPDATE orders SET has_widget = 1 WHERE id = ?"
        " AND (has_widget OR (SELECT sum(has_widget) FROM orders) < ?)",
        order,
        WIDGETS,
    )
    return changed == 1


def put_widget_back(order):
    change("UPDATE orders SET has_widget = 0 WHERE id = ?", order)


def set_status(order, status):
    change("UPDATE orders SET status = ? WHERE id = ?", status, order)


def set_progress(order, parcel):
    change("UPDATE orders SET progress = ? WHERE id = ?", parcel, order)


@cloaca.workflow
def checkout(handle: cloaca.TaskHandle) -> str:
    order = handle.execution_id
    handle.step("create", create_order, order)
    if not handle.step("reserve", reserve_widget, order):
        handle.step("sold out", set_status, order, "SOLD OUT")
        return "SOLD OUT"
    try:
        payment = handle.wait("payment", cloaca.signal("payment", key=order), timeout="2m")
    except TimeoutError:
        payment = None
    if payment != "paid":
        handle.step("put back", put_widget_back, order)
        handle.step("cancel", set_status, order, "CANCELLED")
        return "CANCELLED"
    handle.step("paid", set_status, order, "PAID")
    for parcel in range(1, PARCELS + 1):
        handle.sleep(f"pack {parcel}", "20ms")
        handle.step(f"packed {parcel}", set_progress, order, parcel)
    handle.step("dispatched", set_status, order, "DISPATCHED")
    return "DISPATCHED"


if __name__ == "__main__":
    with cloaca.DefaultRunner("sqlite:///widgets.db") as runner:
        # If the program is started again, the keys find these orders instead of creating new ones.
        first = runner.submit("checkout", key="first")
        runner.send("payment", "paid", key=first.id)
        print(first.result().output)
        # The second order keeps the last widget reserved while it waits for its payment.
        second = runner.submit("checkout", key="second")
        while not second.done() and not list(runner.waits(workflow="checkout")):
            time.sleep(0.01)
        print(runner.execute("checkout", key="third").output)
        runner.send("payment", "refused", key=second.id)
        print(second.result().output)
    sold = store.execute("SELECT sum(has_widget) FROM orders").fetchone()[0]
    print(WIDGETS - sold, "widget left")
