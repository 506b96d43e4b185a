"""Text that any database keeps."""

from __future__ import annotations


def storable(text: str) -> str:
    """The text without what PostgreSQL or UTF-8 refuse: NUL and lone surrogates become U+FFFD, `?`.

    Args:
        text: Words for people, of which a character may be lost.
    """
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()
