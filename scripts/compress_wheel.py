"""Compresses a wheel again with Zopfli, which makes smaller files in the same format as zlib.

    python scripts/compress_wheel.py WHEEL

Replaces the wheel. This takes about a minute.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import zopfli.zlib

# The sizes of the header and of the checksum that zlib's format puts around the compressed data.
_HEADER, _CHECKSUM = 2, 4


class _Compressor:
    """A compressor for `zipfile`, which passes the data of a file in parts."""

    def __init__(self) -> None:
        self._data = bytearray()

    def compress(self, data: bytes) -> bytes:
        self._data += data
        return b""

    def flush(self) -> bytes:
        found: bytes = zopfli.zlib.compress(bytes(self._data), numiterations=5)
        return found[_HEADER:-_CHECKSUM]


def main() -> None:
    """Compresses the wheel that the command line names."""
    wheel = Path(sys.argv[1])
    smaller = wheel.with_suffix(".tmp")
    # `zipfile` has no public way to replace its compressor.
    zipfile._get_compressor = lambda kind, level=None: (  # type: ignore[attr-defined]
        _Compressor() if kind == zipfile.ZIP_DEFLATED else None
    )
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(smaller, "w") as target:
        for entry in source.infolist():
            kept = zipfile.ZipInfo(entry.filename, entry.date_time)
            kept.compress_type, kept.external_attr = entry.compress_type, entry.external_attr
            target.writestr(kept, source.read(entry))
    with zipfile.ZipFile(smaller) as written:
        broken = written.testzip()
    if broken is not None:
        raise ValueError(f"{broken} cannot be read from the new wheel")
    smaller.replace(wheel)


if __name__ == "__main__":
    main()
