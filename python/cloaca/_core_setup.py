"""Prepares the Rust module when the package is imported.

Passes the exceptions and the encoder to it, and installs the handlers for exit and fork.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from cloaca import _core
from cloaca._runner.exit_and_fork import install
from cloaca._values.encoding import dataclass_fields, encode
from cloaca._values.exceptions import CLASS_BY_CODE

_core.set_exceptions(dict(CLASS_BY_CODE))
_core.set_encoder(encode, dataclass_fields)
MutableMapping.register(_core.Context)
install()
