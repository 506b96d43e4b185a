"""Two releases that a person approves: one with a web form, one with the command line."""

import html
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cloaca

URL = "sqlite:///releases.db"

with cloaca.WorkflowBuilder("release"):

    @cloaca.task
    def build(version: str) -> str:
        return f"release {version}"

    cloaca.approval("approve", dependencies=[build], timeout="48h", title="Release {version}?")

    @cloaca.task
    def publish(build: str, approve: dict) -> str:
        return f"{build}, approved by {approve['by']}"


class Form(BaseHTTPRequestHandler):
    """Lists the open approvals, each with two buttons."""

    runner: cloaca.DefaultRunner

    def do_GET(self):
        forms = "".join(
            f"<form method=post><p>{html.escape(wait.title)}"
            f"<input type=hidden name=execution value='{wait.execution_id}'>"
            f"<input type=hidden name=task value='{html.escape(wait.task_id, quote=True)}'>"
            f"<input name=by placeholder='your name' required>"
            f"<button name=answer value=yes>Approve</button>"
            f"<button name=answer value=no>Reject</button></form>"
            for wait in self.runner.waits(kind="approval")
        )
        self.answer(200, forms or "Nothing to approve.")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fields = dict(urllib.parse.parse_qsl(body))
        decide = self.runner.approve if fields["answer"] == "yes" else self.runner.reject
        try:
            decide(fields["execution"], fields["task"], by=fields["by"])
        except cloaca.AlreadyDecidedError as error:
            self.answer(409, html.escape(str(error)))
        else:
            self.answer(200, "Thank you.")

    def answer(self, status, text):
        page = f"<!doctype html><meta charset=utf-8><title>Approvals</title>{text}".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *arguments):
        """Writes no access log."""


def wait_for_question(runner, handle):
    while not any(wait.execution_id == handle.id for wait in runner.waits(kind="approval")):
        time.sleep(0.01)


if __name__ == "__main__":
    with cloaca.DefaultRunner(URL) as runner:
        Form.runner = runner
        server = ThreadingHTTPServer(("127.0.0.1", 0), Form)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"

        first = runner.submit("release", {"version": "1.0"})
        wait_for_question(runner, first)
        with urllib.request.urlopen(address) as page:
            print("Release 1.0?" in page.read().decode())
        # The fields that the browser sends when Ann clicks on "Approve".
        fields = {"execution": first.id, "task": "approve", "by": "Ann", "answer": "yes"}
        urllib.request.urlopen(address, urllib.parse.urlencode(fields).encode()).close()
        print(first.result().final_context["publish"])

        second = runner.submit("release", {"version": "1.1"})
        wait_for_question(runner, second)
        command = ["approve", second.id, "approve", "--by", "Bob", "-c", URL]
        subprocess.run([sys.executable, "-m", "cloaca", *command], check=True, capture_output=True)
        print(second.result().final_context["publish"])
        server.shutdown()
        server.server_close()
