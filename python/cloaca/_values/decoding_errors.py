"""The errors of decoders: of one value, and of an annotation."""

from __future__ import annotations


class Undecodable(ValueError):
    """A value that does not match its annotation: the path inside the value, and the reason."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(path, reason)


class Unreadable(TypeError):
    """An annotation for which no decoder can be made; the text says why."""
