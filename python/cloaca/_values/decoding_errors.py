"""The errors of decoders: for a value, and for an annotation."""

from __future__ import annotations

# Maximum number of parts, besides the first, that a message names.
_MAX_OTHERS = 3


class Undecodable(ValueError):
    """A value that does not match its annotation: the path inside the value, and the reason.

    Attributes:
        path: The path of the first part that does not match.
        reason: The reason why this part does not match.
        others: The paths and reasons of other parts that do not match.
    """

    def __init__(self, path: str, reason: str, others: tuple[tuple[str, str], ...] = ()) -> None:
        self.path = path
        self.reason = reason
        self.others = others
        super().__init__(path, reason)

    def under(self, prefix: str) -> Undecodable:
        """Return the error of a value that contains this value at the path `prefix`."""
        others = tuple((prefix + path, reason) for path, reason in self.others)
        return Undecodable(prefix + self.path, self.reason, others)

    def text(self, prefix: str = "") -> str:
        """Return the reasons of all parts, each with its whole path.

        Args:
            prefix: The path of the value, such as the name of the parameter.
        """
        found = []
        for path, reason in [(self.path, self.reason), *self.others[:_MAX_OTHERS]]:
            whole = prefix + path if prefix else path.removeprefix(".")
            found.append(f"`{whole}`: {reason}" if whole else reason)
        more = len(self.others) - _MAX_OTHERS
        return "; ".join([*found, f"and {more} more"] if more > 0 else found)


class Unreadable(TypeError):
    """An annotation for which no decoder can be made; the text contains the reason.

    Attributes:
        hint: A suggestion for another annotation, if there is one.
    """

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(reason)


class UnknownName(Unreadable):
    """An annotation with a name that does not exist at run time.

    For example, only type checkers import the name, or the class is defined later.
    """
