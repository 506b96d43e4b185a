"""Makes untrusted text safe for terminals and pages: control characters become escapes."""

from __future__ import annotations

# C0 without tab and line feed, DEL, C1, and Unicode characters that reorder text or end lines.
_CONTROLS = (
    *(code for code in range(0x20) if code not in {0x09, 0x0A}),
    *range(0x7F, 0xA0),
    *range(0x200E, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
)
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _CONTROLS}
_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in _CONTROLS}


def visible(text: str) -> str:
    """Escapes the control characters of a text, except tabs and line feeds."""
    return text.translate(_ESCAPES)


def visible_json(document: str) -> str:
    """Replaces control characters in a JSON document with JSON escapes, which keep its value."""
    return document.translate(_JSON_ESCAPES)
