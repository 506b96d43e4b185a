"""Gives the Rust module the package's exceptions and encoder, while the package is imported."""

from __future__ import annotations

from collections.abc import MutableMapping

from cloaca import _core
from cloaca._runner.exit_and_fork import install
from cloaca._values.encoding import encode
from cloaca._values.exceptions import CLASS_BY_CODE

_core.set_exceptions(dict(CLASS_BY_CODE))
_core.set_encoder(encode)
MutableMapping.register(_core.Context)
install()
