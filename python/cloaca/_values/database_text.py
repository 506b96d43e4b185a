"""Text that any database can store."""

from __future__ import annotations


def storable(text: str) -> str:
    """Replaces characters that cannot be stored: NUL with U+FFFD, lone surrogates with `?`.

    PostgreSQL refuses NUL, and UTF-8 cannot encode lone surrogates.

    Args:
        text: Text for people, in which a character may change.
    """
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
