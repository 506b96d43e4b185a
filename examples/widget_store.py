"""DBOS's widget store, written with cloaca: a checkout that waits for payment, then packs."""

import sqlite3
import threading
import time

import cloaca

PARCELS = 3

store = sqlite3.connect("store.sqlite", check_same_thread=False)
store.executescript(
    "CREATE TABLE stock (left_over INTEGER); INSERT INTO stock VALUES (2);"
    "CREATE TABLE orders (id TEXT PRIMARY KEY, status TEXT, progress INTEGER);"
)
lock = threading.Lock()


def change(sql, *values):
    with lock, store:
        return store.execute(sql, values).rowcount


def create_order(order):
    # If the process dies during this step, the step runs again. It must not create a second order.
    change("INSERT OR IGNORE INTO orders VALUES (?, 'PENDING', 0)", order)


def reserve_widget():
    return change("UPDATE stock SET left_over = left_over - 1 WHERE left_over > 0") == 1


def put_widget_back():
    change("UPDATE stock SET left_over = left_over + 1")


def set_status(order, status):
    change("UPDATE orders SET status = ? WHERE id = ?", status, order)


def set_progress(order, parcel):
    change("UPDATE orders SET progress = ? WHERE id = ?", parcel, order)


@cloaca.workflow
def checkout(handle: cloaca.TaskHandle) -> str:
    order = handle.execution_id
    handle.step("create", create_order, order)
    if not handle.step("reserve", reserve_widget):
        handle.step("sold out", set_status, order, "SOLD OUT")
        return "SOLD OUT"
    try:
        payment = handle.wait("payment", cloaca.signal("payment", key=order), timeout="2m")
    except TimeoutError:
        payment = None
    if payment != "paid":
        handle.step("put back", put_widget_back)
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
        first = runner.submit("checkout")
        runner.send("payment", "paid", key=first.id)
        print(first.result().output)
        # The second order keeps the last widget reserved while it waits for its payment.
        second = runner.submit("checkout")
        while not list(runner.waits(workflow="checkout")):
            time.sleep(0.01)
        print(runner.execute("checkout").output)
        runner.send("payment", "refused", key=second.id)
        print(second.result().output)
    print(store.execute("SELECT left_over FROM stock").fetchone()[0], "widget left")
