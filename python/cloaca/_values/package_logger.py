"""The package's logger."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger

_logger: Logger | None = None


def logger() -> Logger:
    """The logger `cloaca`.

    If the program sets no level, WARNING and above are logged. If it sets no handler either,
    Python's handler of last resort prints them on stderr.
    """
    global _logger
    if _logger is None:
        import logging

        _logger = logging.getLogger("cloaca")
    return _logger
