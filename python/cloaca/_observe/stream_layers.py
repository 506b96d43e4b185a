"""The layers that the package puts over `sys.stdout` and `sys.stderr`.

A layer is a stream that forwards to the stream below it. Output captures and progress bars can end
in any order, so each removes its own layer, wherever that layer is.
"""

from __future__ import annotations

import sys
from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Reentrant, because a finalizer that shuts a runner down may run while this thread holds the lock.
_changing = RLock()


class Layer:
    """A stream that forwards everything to another stream, `stream`."""

    #: Whether layers of other kinds are put below this layer, so that it stays outermost.
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
    """Returns the layers over a stream of `sys`, the outermost first."""
    found: list[Layer] = []
    stream = getattr(sys, name)
    while isinstance(stream, Layer):
        found.append(stream)
        stream = stream.stream
    return found


def below_outermost(name: str) -> Any:
    """Returns the stream over which to put a layer: below the outermost layer, if there is one."""
    stream = getattr(sys, name)
    return stream.stream if isinstance(stream, Layer) and stream.is_outermost else stream


def put(name: str, layer: Layer) -> None:
    """Puts a layer over the stream of `sys` that the layer forwards to.

    Does nothing if the program has replaced this stream in the meantime.
    """
    with _changing:
        top = getattr(sys, name)
        if top is layer.stream:
            setattr(sys, name, layer)
        elif isinstance(top, Layer) and top.stream is layer.stream:
            top.stream = layer


def remove(name: str, layer: Layer) -> None:
    """Removes a layer from a stream of `sys`, if the layer is over this stream."""
    with _changing:
        found = layers(name)
        for above, below in zip([None, *found], found, strict=False):
            if below is not layer:
                continue
            if above is None:
                setattr(sys, name, layer.stream)
            else:
                above.stream = layer.stream
