"""Text that any database can store."""

from __future__ import annotations


def storable(text: str) -> str:
    """Replaces what PostgreSQL or UTF-8 refuse: NUL with U+FFFD, lone surrogates with `?`.

    Args:
        text: Text for people, which may lose a character.
    """
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
