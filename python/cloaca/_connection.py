"""Tells the Rust module of the package's exceptions and encoder, while the package is imported."""

from __future__ import annotations

from collections.abc import MutableMapping

from cloaca import _core, _encoding, _exceptions, _lifecycle

_core.set_exceptions(dict(_exceptions.CLASS_BY_CODE))
_core.set_encoder(_encoding.encode)
MutableMapping.register(_core.Context)
_lifecycle.install()
