"""Hints for unknown words."""

from __future__ import annotations

from cloaca._core import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def suggestion(typed: object, known: Iterable[str], *, listing: bool = False) -> str | None:
    """Returns a hint that names the word that was probably meant.

    Args:
        typed: The unknown word.
        known: The known words.
        listing: Whether the hint also lists the known words.
    """
    words = list(known)
    near = nearest(typed, words) if isinstance(typed, str) else None
    parts = [f"did you mean {near!r}?"] if near else []
    if listing and words:
        parts.append(f"choose from {', '.join(words)}")
    return " ".join(parts) or None
