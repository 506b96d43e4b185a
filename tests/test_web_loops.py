"""The ASGI application can run on many event loops, one after another."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import cloaca
import cloaca.web

SCOPE = {
    "type": "http",
    "method": "GET",
    "path": "/api/v1/meta",
    "raw_path": b"/api/v1/meta",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"localhost"), (b"x-user", b"ann")],
    "client": ("127.0.0.1", 1),
}


def test_asgi_application_keeps_no_ended_event_loop(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/web.db"
    cloaca.DefaultRunner(url).shutdown()
    app = cloaca.web.asgi(url, authorize=lambda _: cloaca.web.Access("ann"))
    statuses: list[int] = []

    async def request() -> None:
        parts = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not parts:
                await asyncio.Event().wait()  # the client stays connected
            return parts.pop()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        await app(SCOPE, receive, send)

    def descriptors() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    asyncio.run(request())
    before = descriptors()
    for _ in range(20):
        asyncio.run(request())
    assert statuses == [200] * 21
    assert descriptors() < before + 10
