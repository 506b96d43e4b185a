"""Crawls a site that refuses frequent requests: two maps, with a limit on parallel items."""

import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

import cloaca

SHELVES, BOOKS = 5, 6


class Site(BaseHTTPRequestHandler):
    """A site of shelves with links to books. It serves at most one request every 5 ms."""

    lock = threading.Lock()
    next_at = 0.0
    refused = 0

    def do_GET(self) -> None:
        with self.lock:
            wait = type(self).next_at - time.monotonic()
            if wait > 0:
                type(self).refused += 1
            else:
                type(self).next_at = time.monotonic() + 0.005
        if wait > 0:
            self.send_response(429)
            self.send_header("Retry-After", "0.05")
            self.end_headers()
        elif self.path == "/shelf/3/book/2":
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            links = [f"<a href='{self.path}/book/{book}'>" for book in range(BOOKS)]
            is_shelf = "book" not in self.path
            self.wfile.write("".join(links).encode() if is_shelf else b"a book")

    def log_message(self, *_: object) -> None:
        pass


def get(url: str) -> str:
    """Returns the text of a page. A refused request is retried when the site allows it."""
    try:
        with urlopen(url, timeout=10) as answer:
            return answer.read().decode()
    except HTTPError as error:
        with error:
            if error.code == 429:
                raise cloaca.Retry(after=float(error.headers["Retry-After"])) from None
            raise cloaca.Abort(f"{url} answers {error.code}") from None


with cloaca.WorkflowBuilder("crawl", input={"shelves": list[str]}):
    # At most two requests run at once over all runners, because the limit is for the whole map.
    @cloaca.task(over="shelves", parallel=2, retry_attempts=100)
    def links(url: str) -> list[str]:
        return [urljoin(url, link) for link in re.findall(r"href='(.+?)'", get(url))]

    @cloaca.task
    def books(links: list[list[str]]) -> list[str]:
        return [url for shelf in links for url in shelf]

    @cloaca.task(over=books, parallel=2, retry_attempts=100, tolerate=0.1)
    def pages(url: str) -> int:
        return len(get(url))

    @cloaca.task
    def report(books: list[str], pages: cloaca.MapResult[int]) -> dict[str, object]:
        return {
            "read": len(pages.values()),
            "failed": [item.error.message for item in pages.errors() if item.error],
        }


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://127.0.0.1:{server.server_port}/"
        with cloaca.DefaultRunner("sqlite:///crawl.db") as runner:
            shelves = [f"{site}shelf/{number}" for number in range(SHELVES)]
            result = runner.execute("crawl", {"shelves": shelves})
            found = result.of(report)
        server.shutdown()
    print(result.status, found["read"], "of", SHELVES * BOOKS, "books")
    print([message.replace(site, "/") for message in found["failed"]])
