"""The floors of the engine crate: an import points down only, and pure floors stay pure.

ARCHITECTURE.md describes the floors. This file reads the Rust sources, because the compiler
accepts an import in any direction.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parent.parent / "crates" / "cloacina" / "src"

# What each floor may import, besides itself.
MAY_IMPORT = {
    "types": set[str](),
    "workflow": {"types"},
    "engine": {"types", "workflow"},
    "store": {"types", "workflow"},
    "runtime": {"types", "workflow", "engine", "store"},
    "runner": {"types", "workflow", "engine", "store", "runtime"},
}

# Floors that do nothing to the world: their results are functions of values.
PURE_FLOORS = {"types", "workflow", "engine"}
IO = re.compile(
    r"\b(?:tokio|diesel|diesel_migrations|libsqlite3_sys|std\s*::\s*(?:env|fs|io|net|process|thread))\b"
)

# Time and randomness are arguments. `types` defines the clock and the ids, the others may not ask.
TIMELESS_FLOORS = {"workflow", "engine"}
CLOCK = re.compile(
    r"\b(?:SystemClock|fastrand|\w+Id\s*::\s*generate"
    r"|(?:Instant|SystemTime|Utc|Local)\s*::\s*now|Uuid\s*::\s*(?:now_v\d|new_v4))\b"
)
TEST_MODULE = re.compile(r"#\[cfg\(test\)\]\s*mod\s+\w+\s*\{")

NOISE = re.compile(
    r"""//[^\n]*                                # a line comment
      | /\*.*?\*/                               # a block comment
      | b?r(?P<hashes>\#*)".*?"(?P=hashes)      # a raw string
      | b?"(?:\\.|[^"\\])*"                     # a string
      | b?'(?:\\[^']+|\\'|[^'\\])'              # a character; a lifetime has no second quote
    """,
    re.DOTALL | re.VERBOSE,
)
TOKEN = re.compile(r"\w+|::|\S")


def without_noise(source: str) -> str:
    """The source without comments and literals, its line numbers kept."""
    return NOISE.sub(lambda match: " " + "\n" * match.group().count("\n"), source)


def module_of(file: Path) -> list[str]:
    """The module path of a file, named from the sources: `store/mod.rs` is `store`."""
    parts = list(file.with_suffix("").parts)
    return parts[:-1] if parts[-1] in {"mod", "lib"} else parts


def read_paths(tokens: list[str], position: int) -> Iterator[list[str]]:
    """The paths that begin at a token: one, or each of `a::{b, c::{d, e}}`."""
    head = [tokens[position]]
    position += 1
    while position + 1 < len(tokens) and tokens[position] == "::":
        following = tokens[position + 1]
        if following == "{":
            yield from ([*head, *tail] for tail in read_group(tokens, position + 1))
            return
        if following != "*" and not re.match(r"\w", following):
            break
        head.append(following)
        position += 2
    yield head


def read_group(tokens: list[str], opening: int) -> Iterator[list[str]]:
    """The paths inside the braces that open at a token."""
    depth = 0
    for position in range(opening, len(tokens)):
        token = tokens[position]
        if token == "{":
            depth += 1
        elif token == "}":
            depth -= 1
            if depth == 0:
                return
        if depth == 1 and token in {"{", ","} and tokens[position + 1] not in {"{", "}"}:
            yield from read_paths(tokens, position + 1)


def imports(source: str, module: list[str]) -> Iterator[list[str]]:
    """Every path of a source file into its own crate, from the crate's root."""
    tokens = TOKEN.findall(without_noise(source))
    inline: list[str | None] = []  # one entry for each open brace: a module's name, or None
    for position, token in enumerate(tokens):
        if token == "{":
            named = position >= 2 and tokens[position - 2] == "mod"
            inline.append(tokens[position - 1] if named else None)
        elif token == "}" and inline:
            inline.pop()
        # `self` alone is the receiver of a method; as a path it stays inside its module.
        if token not in {"crate", "super"} or tokens[position + 1 : position + 2] != ["::"]:
            continue
        if position > 0 and tokens[position - 1] == "::":
            continue
        here = module + [name for name in inline if name is not None]
        for path in read_paths(tokens, position):
            base = [] if path[0] == "crate" else here
            rest = path[1:] if path[0] == "crate" else path
            while rest and rest[0] in {"super", "self"}:
                base = base[:-1] if rest[0] == "super" else base
                rest = rest[1:]
            yield base + rest


def violations(file: Path, source: str) -> list[str]:
    """What a source file does that its floor may not, as sentences."""
    module = module_of(file)
    if not module:
        return []  # lib.rs: it names every floor, to re-export
    floor = module[0]
    if floor not in MAY_IMPORT:
        return [f"{file}: `{floor}` is no floor; put the file into one of {', '.join(MAY_IMPORT)}"]
    found = []
    for path in imports(source, module):
        target = path[0] if path else "*"
        written = "::".join(["crate", *path])
        if target not in MAY_IMPORT:
            found.append(f"{file}: `{written}` goes through the crate's root; name the floor")
        elif target != floor and target not in MAY_IMPORT[floor]:
            found.append(f"{file}: `{written}` points up: {floor} may not import {target}")
    # The tests of a pure floor may use what they like; they stand last in their file.
    code = TEST_MODULE.split(without_noise(source))[0]
    if floor in PURE_FLOORS:
        found += [f"{file}: `{m.group()}` in the pure floor {floor}" for m in IO.finditer(code)]
    if floor in TIMELESS_FLOORS:
        found += [
            f"{file}: `{m.group()}`: time and ids are arguments" for m in CLOCK.finditer(code)
        ]
    return found


def test_every_import_of_the_engine_crate_points_down() -> None:
    files = sorted(SOURCES.rglob("*.rs"))
    assert SOURCES / "lib.rs" in files
    found = [
        violation
        for file in files
        for violation in violations(file.relative_to(SOURCES), file.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_the_crate_root_only_re_exports() -> None:
    root = without_noise((SOURCES / "lib.rs").read_text(encoding="utf-8"))
    items = re.findall(r"\b(?:fn|struct|enum|trait|impl|static|const)\b", root)
    assert not items, f"lib.rs defines something: {items}"


def test_the_macro_crate_does_not_depend_on_the_engine() -> None:
    manifest = SOURCES.parent.parent / "cloacina-macros" / "Cargo.toml"
    # Its tests may: what the macros expand to must compile.
    dependencies = tomllib.loads(manifest.read_text(encoding="utf-8"))["dependencies"]
    assert "cloacina" not in dependencies


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("types/id.rs", "use crate::workflow::Task;"),
        ("types.rs", "fn f() -> crate::engine::Plan { todo() }"),
        ("types/mod.rs", "use super::workflow::Task;"),
        ("types/id.rs", "use super::super::workflow::Task;"),
        ("workflow/graph.rs", "use crate::{types::TaskId, engine::plan};"),
        ("workflow/graph.rs", "use crate::{types::{TaskId, State}, store};"),
        ("engine/retry.rs", "pub use crate::store::Store;"),
        ("engine/retry.rs", "mod tests { use super::super::super::store::Store; }"),
        ("engine/retry.rs", "#[cfg(test)]\nmod tests { use crate::runtime::Timer; }"),
        ("store/sqlite/claim.rs", "let x = crate :: engine :: decide(a);"),
        ("store/mod.rs", 'let s = "// no comment"; use crate::runner::DefaultRunner;'),
        ("store/mod.rs", "fn f<'a>(x: &'a str) -> crate::runtime::Lane<'a> { 'x' }"),
        ("runtime/heartbeat.rs", "use crate::runner;"),
        ("engine/plan.rs", "use crate::*;"),
        ("engine/plan.rs", "use crate::TaskId;"),
        ("engine/mod.rs", "use super::*;"),
        ("helpers.rs", "fn nothing() {}"),
        ("engine/plan.rs", "let now = std::time::SystemTime::now();"),
        ("engine/plan.rs", "use std::fs::File;"),
        ("workflow/mod.rs", "use tokio::sync::Notify;"),
        ("workflow/mod.rs", "let id = Uuid::now_v7();"),
        ("engine/plan.rs", "let id = ExecutionId::generate();"),
        ("types/json.rs", "use std::fs;"),
    ],
)
def test_a_wrong_import_is_found(file: str, source: str) -> None:
    assert violations(Path(file), source)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("lib.rs", "pub use crate::runner::DefaultRunner;"),
        ("types/id.rs", "use super::state::State; use super::*; use crate::types::time;"),
        ("engine/plan.rs", "mod tests { use super::*; use super::super::retry; }"),
        ("engine/plan.rs", "fn f() { if a { b() } } mod tests { use super::*; }"),
        ("engine/plan.rs", "use crate::{types::{self, TaskId}, workflow::Task};"),
        ("engine/plan.rs", "// crate::store is out of reach\n/* use crate::store; */"),
        ("engine/plan.rs", 'const NAME: &str = "crate::store"; const RAW: &str = r#"crate::"s"#;'),
        ("engine/plan.rs", "pub(crate) fn f(&self) -> bool { self.waits && self.is_open() }"),
        ("engine/plan.rs", "pub(in crate::engine) fn f() {}"),
        ("engine/plan.rs", "use std::time::Duration; fn f(now: Timestamp) {}"),
        ("engine/plan.rs", "fn f() {}\n#[cfg(test)]\nmod tests { use std::fs; }"),
        ("types/time.rs", "let now = SystemTime::now();"),
        ("store/file.rs", "use std::thread; use crate::workflow::Workflow;"),
        ("runner/mod.rs", "use crate::{engine, runtime, store, types, workflow};"),
    ],
)
def test_a_right_import_is_accepted(file: str, source: str) -> None:
    assert violations(Path(file), source) == []
