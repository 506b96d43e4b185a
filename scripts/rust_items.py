"""Reads the exports of the crate `cloacina` from its sources, for the reference of the Rust API."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CRATES = Path(__file__).resolve().parent.parent / "crates"
CRATE = CRATES / "cloacina" / "src"
MACROS = CRATES / "cloacina-macros" / "src" / "lib.rs"

_EXPORT = re.compile(r"^pub use (\w+)::(?:\{([^}]*)\}|([\w ]+));", re.MULTILINE)
# Macros of the crate generate some types. Such a type is found by its name in the macro call.
_TYPE = re.compile(r"^(?:pub (?:struct|enum|trait|type|fn) (\w+)|    (\w+)(?: \{)?$)")
_METHOD = re.compile(r"^    pub (?:const |async )*fn (\w+)")
_IMPL = re.compile(r"^impl (\w+) \{$")


@dataclass
class Item:
    """A public item of the crate."""

    purpose: str
    #: The methods with their descriptions, in the order of the sources.
    methods: dict[str, str] = field(default_factory=dict)


def first_sentence(lines: list[str]) -> str:
    """Returns the first sentence of a doc comment, in a form that fits into a table cell."""
    paragraph = " ".join(lines[: lines.index("")] if "" in lines else lines)
    # References to the semantics are for maintainers, and rustdoc links do not work here, so both
    # are removed.
    paragraph = re.sub(r" \(semantics [A-Z0-9, ]+\)", "", paragraph)
    paragraph = re.sub(r"\[(`[^`]*`)\](?:\([^)]*\))?", r"\1", paragraph)
    end = re.search(r"(?<!e\.g)\.(?= |$)", paragraph)
    return (paragraph[: end.end()] if end else paragraph).replace("|", "\\|")


def documented(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the first line of each documented item, with the first sentence of its doc comment.

    Skips attributes between the comment and the line. Leaves out items that rustdoc hides. Also
    yields the first line of each `impl` block; an `impl` block without a comment has an empty
    sentence.
    """
    docs: list[str] = []
    is_hidden, closing = False, ""
    for line in path.read_text().splitlines():
        text = line.strip()
        if closing:
            closing = "" if text.endswith(closing) else closing
        elif text.startswith("///"):
            docs.append(text.removeprefix("///").strip())
        elif text.startswith("#["):
            is_hidden |= "doc(hidden)" in text
            closing = "" if text.endswith("]") else ")]"
        else:
            if docs and not is_hidden:
                yield line, first_sentence(docs)
            elif _IMPL.match(line):
                yield line, ""
            docs, is_hidden = [], False


def exported() -> dict[str, dict[str, str]]:
    """Returns, for each layer, a dict from an item's name in the layer to its exported name."""
    found: dict[str, dict[str, str]] = {}
    for layer, several, one in _EXPORT.findall((CRATE / "lib.rs").read_text()):
        for entry in (several or one).split(","):
            inside, _, outside = entry.strip().partition(" as ")
            if inside and layer != "cloacina_macros":
                found.setdefault(layer, {})[inside] = outside or inside
    return found


def items() -> dict[str, Item]:
    """Returns all exported items, in alphabetical order.

    Raises:
        SystemExit: An item's documentation was not found.
    """
    found: dict[str, Item] = {}
    for layer, names in exported().items():
        purposes: dict[str, str] = {}
        methods: dict[str, dict[str, str]] = {}
        for path in sorted((CRATE / layer).rglob("*.rs")):
            owner = ""
            for line, purpose in documented(path):
                block, kind, method = _IMPL.match(line), _TYPE.match(line), _METHOD.match(line)
                if block:
                    owner = block[1]
                elif method:
                    # Keeps the first method with this name. A second method exists only in builds
                    # without a feature of the crate.
                    methods.setdefault(owner, {}).setdefault(method[1], purpose)
                elif kind:
                    purposes.setdefault(kind[1] or kind[2], purpose)
        missing = sorted(set(names) - set(purposes))
        if missing:
            raise SystemExit(f"rust_items.py: found no documentation of {missing}")
        for inside, name in names.items():
            found[name] = Item(purposes[inside], methods.get(inside, {}))
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


def task_options() -> list[str]:
    """Returns the lines of the table with the options of `#[task]`."""
    lines = [line.removeprefix("/// ") for line in MACROS.read_text().splitlines()]
    start = lines.index("| option | meaning |")
    end = next(at for at in range(start, len(lines)) if not lines[at].startswith("|"))
    # The page of `cargo doc` has these two sections; this page has only the others.
    elsewhere = re.compile(r"see \*(Maps|Waits)\* below")
    return [elsewhere.sub(r"see *\1* in `cargo doc`", line) for line in lines[start:end]]


def tables() -> str:
    """Returns the generated part of the page: items, options, and methods."""
    found = items()
    parts = ["### Items", "", "| item | what it is |", "|---|---|"]
    parts += [f"| `{name}` | {item.purpose} |" for name, item in found.items()]
    parts += ["", "### The options of `#[task]`", "", *task_options(), ""]
    for name, item in found.items():
        if item.methods:
            parts += [f"### `{name}`", "", "| method | what it does |", "|---|---|"]
            parts += [f"| `{method}` | {purpose} |" for method, purpose in item.methods.items()]
            parts += [""]
    return "\n".join(parts)
