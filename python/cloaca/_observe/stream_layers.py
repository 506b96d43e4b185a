"""The layers that the package puts over `sys.stdout` and `sys.stderr`.

Captures and progress bars come and go in any order, so each removes its own layer, wherever it is.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_changing = allocate_lock()


class Layer:
    """A stream that passes everything on to another one, `stream`."""

    #: Whether it stays above the layers of other kinds, which are put below it.
    is_outermost = False

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def writelines(self, lines: Any) -> None:
        """Writes each of the lines."""
        for line in lines:
            self.write(line)

    def write(self, text: str) -> Any:
        """Writes to the stream."""
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def layers(name: str) -> list[Layer]:
    """The layers over a stream of `sys`, the outermost first."""
    found: list[Layer] = []
    stream = getattr(sys, name)
    while isinstance(stream, Layer):
        found.append(stream)
        stream = stream.stream
    return found


def below_outermost(name: str) -> Any:
    """The stream over which a layer that is not outermost must be put."""
    stream = getattr(sys, name)
    return stream.stream if isinstance(stream, Layer) and stream.is_outermost else stream


def put(name: str, layer: Layer) -> None:
    """Puts a layer over the stream of `sys` for which it was made."""
    with _changing:
        top = getattr(sys, name)
        if top is layer.stream:
            setattr(sys, name, layer)
        elif isinstance(top, Layer) and top.stream is layer.stream:
            top.stream = layer


def remove(name: str, layer: Layer) -> None:
    """Removes a layer from a stream of `sys`, if it is there."""
    with _changing:
        found = layers(name)
        for above, below in zip([None, *found], found, strict=False):
            if below is not layer:
                continue
            if above is None:
                setattr(sys, name, layer.stream)
            else:
                above.stream = layer.stream
