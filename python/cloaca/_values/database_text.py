"""Text that any database can store."""

from __future__ import annotations


def storable(text: str) -> str:
    """Replaces characters that PostgreSQL or UTF-8 refuses: NUL by U+FFFD, lone surrogates by `?`.

    Args:
        text: Text for people, in which a character may change.
    """
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
