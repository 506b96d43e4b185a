"""The argument of the `KeyError` for a key that a context does not have."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


class MissingKey(str):
    """A key with a sentence about it.

    The object equals the key. A `KeyError` shows the `repr` of its argument, which is the sentence.
    """

    __slots__ = ("_sentence",)
    _sentence: str

    def __new__(cls, key: str, sentence: str) -> Self:
        """Make the argument of a `KeyError`."""
        missing = super().__new__(cls, key)
        missing._sentence = sentence
        return missing

    def __repr__(self) -> str:
        return self._sentence

    def __reduce__(self) -> tuple[type[MissingKey], tuple[str, str]]:
        return MissingKey, (str(self), self._sentence)
