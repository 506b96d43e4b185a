"""The package's logger."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger

_logger: Logger | None = None


def logger() -> Logger:
    """Returns the logger `cloaca`.

    If the program sets no level, records of WARNING and above are logged. If the program sets no
    handler, Python's handler of last resort prints these records on stderr.
    """
    global _logger
    if _logger is None:
        import logging

        _logger = logging.getLogger("cloaca")
    return _logger
