"""The answer to requests that arrive while the database cannot be opened."""

from __future__ import annotations

import json
import uuid

from cloaca._core import WebService

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca._values.exceptions import DatabaseError

#: The HTTP status of the answer.
STATUS = 503


class Unavailable:
    """A problem (RFC 9457) with status 503.

    The caller is not authenticated yet, so the answer does not contain the message of the error,
    which names the database.
    """

    def __init__(self, error: DatabaseError) -> None:
        #: The text of the error, for the log.
        self.text = str(error)
        #: The id of the failure, for the answer and for the log.
        self.instance = f"urn:uuid:{uuid.uuid4()}"
        self._code = error.code

    def answer(self, method: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Return the headers and the body of the answer to a request."""
        problem = {
            "type": f"reference/errors/#{self._code.replace('_', '-')}",
            "title": "Service Unavailable",
            "status": STATUS,
            "detail": "the database cannot be opened",
            "instance": self.instance,
            "code": self._code,
            "hint": "the server's log has the cause, under the id of this failure; try again later",
        }
        body = json.dumps(problem).encode()
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"retry-after", b"2"),
            (b"cache-control", b"no-store"),
            (b"content-length", str(len(body)).encode()),
            *WebService.security_headers(),
        ]
        return headers, b"" if method == "HEAD" else body
