"""The layers of the engine crate: imports point down only, and pure layers perform no I/O.

ARCHITECTURE.md describes the layers. Inside the upper layers, the imports between files form no
cycle. These tests read the Rust sources, because the compiler accepts imports in any direction.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parent.parent / "crates" / "cloacina" / "src"

# The other layers that each layer can import.
MAY_IMPORT = {
    "types": set[str](),
    "workflow": {"types"},
    "engine": {"types", "workflow"},
    "store": {"types", "workflow"},
    "runtime": {"types", "workflow", "engine", "store"},
    "runner": {"types", "workflow", "engine", "store", "runtime"},
}

# Layers that use no files, environment, network, processes, threads, database or async runtime.
LAYERS_WITHOUT_IO = {"types", "workflow", "engine"}
IO = re.compile(
    r"\b(?:tokio|diesel|diesel_migrations|libsqlite3_sys|std\s*::\s*(?:env|fs|io|net|process|thread))\b"
)

# Layers that use no clock and no randomness. They receive times and new ids as arguments.
TIMELESS_LAYERS = {"workflow", "engine"}
CLOCK = re.compile(
    r"\b(?:SystemClock|fastrand|\w+Id\s*::\s*generate"
    r"|(?:Instant|SystemTime|Utc|Local)\s*::\s*now|Uuid\s*::\s*(?:now_v\d|new_v4))\b"
)
TEST_MODULE = re.compile(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*mod\s+\w+\s*\{")

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
    """Returns the source without comments and literals, with the same line numbers."""
    return NOISE.sub(lambda match: " " + "\n" * match.group().count("\n"), source)


def module_of(file: Path) -> list[str]:
    """Returns the module path of a file, relative to the sources: `store/mod.rs` is `store`."""
    parts = list(file.with_suffix("").parts)
    return parts[:-1] if parts[-1] in {"mod", "lib"} else parts


def read_paths(tokens: list[str], position: int) -> Iterator[list[str]]:
    """Returns the paths that start at a token: one path, or all paths of `a::{b, c::{d, e}}`."""
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
    """Returns the paths inside the braces that open at a token."""
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
    """Returns the paths that a source file uses for items of the same crate.

    The paths start at the crate's root.
    """
    tokens = TOKEN.findall(without_noise(source))
    # One entry for each open brace: the name of the module that it opens, or `None`.
    inline: list[str | None] = []
    for position, token in enumerate(tokens):
        if token == "{":
            named = position >= 2 and tokens[position - 2] == "mod"
            inline.append(tokens[position - 1] if named else None)
        elif token == "}" and inline:
            inline.pop()
        # `self` is skipped, because it is either the receiver of a method or the start of a path
        # inside the same module.
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
    """Returns a sentence for each place where a file violates the rules of its layer."""
    module = module_of(file)
    if not module:
        return []  # This file is lib.rs, which re-exports names of every layer.
    layer = module[0]
    if layer not in MAY_IMPORT:
        return [
            f"{file}: `{layer}` is not a layer; move the file to one of {', '.join(MAY_IMPORT)}"
        ]
    found = []
    for path in imports(source, module):
        target = path[0] if path else "*"
        written = "::".join(["crate", *path])
        if target not in MAY_IMPORT:
            found.append(f"{file}: `{written}` goes through the crate's root; name the layer")
        elif target != layer and target not in MAY_IMPORT[layer]:
            found.append(f"{file}: `{written}` points up: {layer} may not import {target}")
    # Test modules may perform I/O and read clocks, so the checks below skip test modules, which are
    # at the end of a file or in `tests.rs`.
    code = "" if module[-1] == "tests" else TEST_MODULE.split(without_noise(source))[0]
    if layer in LAYERS_WITHOUT_IO:
        found += [
            f"{file}: the layer {layer} performs no I/O and may not use `{m.group()}`"
            for m in IO.finditer(code)
        ]
    if layer in TIMELESS_LAYERS:
        found += [
            f"{file}: layer {layer} may not use `{m.group()}`; pass times and new ids as arguments"
            for m in CLOCK.finditer(code)
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


def test_the_crate_root_contains_only_re_exports() -> None:
    root = without_noise((SOURCES / "lib.rs").read_text(encoding="utf-8"))
    items = re.findall(r"\b(?:fn|struct|enum|trait|impl|static|const)\b", root)
    assert not items, f"lib.rs may only re-export items, but defines: {items}"


def test_the_macro_crate_does_not_depend_on_the_engine() -> None:
    manifest = SOURCES.parent.parent / "cloacina-macros" / "Cargo.toml"
    # The tests of the macro crate can depend on `cloacina`, because they compile expanded macros.
    dependencies = tomllib.loads(manifest.read_text(encoding="utf-8"))["dependencies"]
    assert "cloacina" not in dependencies


# The layers in which the imports between files must form no cycle.
ORDERED_LAYERS = ("store", "runtime", "runner")

# Maximum number of lines in a source file. `long_files` has a lower maximum for one file.
MAX_LINES = 500

# The order of some files and folders of `runtime`. No entry may import an entry above it.
RUNTIME_ORDER = (
    "coordinator_thread.rs",
    "coordinator.rs",
    "turn.rs",
    "shutdown.rs",
    "duties",
    "commit.rs",
    "isolation.rs",
    "decide",
    "dispatch.rs",
    "step.rs",
    "batch.rs",
    "ledger",
    "executors",
    "mailbox.rs",
    "message.rs",
    "assignment.rs",
)

# Import cycles and long files that the tests accept as exceptions.
ALLOWED_CYCLES: frozenset[str] = frozenset()
ALLOWED_LONG_FILES: frozenset[str] = frozenset()

Sources = Mapping[str, str]


class ImportGraph:
    """The imports between a crate's files.

    An import of a re-exported name counts as an import of the file that defines the name.
    """

    def __init__(self, sources: Sources) -> None:
        declared = re.compile(r"#\[cfg\(test\)\]\s*(?:#\[[^\]]*\]\s*)*mod\s+(\w+)\s*;")
        tests = {
            (*module_of(Path(file)), name)
            for file, source in sources.items()
            for name in declared.findall(source)
        }
        self._files = {
            module: file
            for file in sources
            if (module := tuple(module_of(Path(file)))) and module not in tests
        }
        self._code = {file: TEST_MODULE.split(without_noise(sources[file]))[0] for file in sources}
        self._uses = {
            module: dict(self._names(module, self._code[file]))
            for module, file in self._files.items()
        }

    def _names(self, module: tuple[str, ...], code: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Returns the names that `use` imports into a module, each with its path from the root."""
        for use in re.finditer(r"\buse\s+([^;]+);", code):
            text = re.sub(r"\bas\s+\w+", "", use.group(1))
            tokens = TOKEN.findall(text)
            # A path that does not start with `crate` or `super` can name a module inside this one.
            for path in read_paths(tokens, 0):
                full = list(module)
                for part in path:
                    if part == "crate":
                        full = []
                    elif part == "super":
                        full.pop()
                    elif part != "self":
                        full.append(part)
                if path[-1] != "*":
                    yield path[-1], tuple(full)

    def _defining_file(self, path: tuple[str, ...], depth: int = 0) -> str | None:
        """Returns the file that defines the item of a path."""
        length = next((n for n in range(len(path), 0, -1) if path[:n] in self._files), 0)
        if length == 0:
            return None
        module, rest = path[:length], path[length:]
        target = self._uses[module].get(rest[0]) if rest else None
        if target is not None and depth < 8 and target != path:
            found = self._defining_file((*target, *rest[1:]), depth + 1)
            if found is not None:
                return found
        return self._files[module]

    @cache  # noqa: B019 - this test module keeps the few instances alive anyway
    def between_files(self, layer: str | None = None) -> dict[str, set[str]]:
        """Returns the imports between the files of a layer, or of the whole crate."""
        graph: dict[str, set[str]] = {}
        for module, file in self._files.items():
            if layer is not None and module[0] != layer:
                continue
            code = self._code[file]
            paths = {tuple(path) for path in imports(code, list(module))}
            if file.endswith("mod.rs"):
                # `mod.rs` re-exports items of its folder. Only names that its own code uses count.
                own = re.sub(r"\buse\s+[^;]+;", "", code)
                paths = {path for path in paths if path and re.search(rf"\b{path[-1]}\b", own)}
                paths |= {
                    path
                    for name, path in self._uses[module].items()
                    if re.search(rf"\b{name}\b", own)
                }
            found = {self._defining_file(path) for path in paths}
            graph[file] = {
                target
                for target in found
                if target is not None
                and target != file
                and (layer is None or target.startswith(f"{layer}/"))
            }
        return graph


def child_of(file: str, folder: str) -> str | None:
    """Returns the file or subfolder, directly inside `folder`, that is or contains `file`."""
    if not file.startswith(folder + "/"):
        return None
    return file[len(folder) + 1 :].split("/")[0]


def between_children(graph: dict[str, set[str]], folder: str) -> dict[str, set[str]]:
    """Returns the imports between the entries of a folder. A subfolder counts as one node."""
    children: dict[str, set[str]] = {}
    for file, targets in graph.items():
        here = child_of(file, folder)
        if here is not None:
            there = {child_of(target, folder) for target in targets}
            children.setdefault(here, set()).update(
                name for name in there if name not in {None, here}
            )
    return children


def cycles(graph: dict[str, set[str]]) -> list[tuple[str, ...]]:
    """Returns the groups of nodes in which each node can reach every node of the group."""

    @cache
    def reached(start: str) -> frozenset[str]:
        seen: set[str] = set()
        pending = [start]
        while pending:
            new = graph.get(pending.pop(), set()) - seen
            seen |= new
            pending.extend(new)
        return frozenset(seen)

    groups = {
        tuple(sorted(node for node in reached(start) if start in reached(node))) for start in graph
    }
    return sorted(group for group in groups if group)


def cycles_of_layer(layer: str, crate: ImportGraph) -> list[str]:
    """Returns a line for each import cycle inside a folder of a layer."""
    graph = crate.between_files(layer)
    folders = {layer} | {
        "/".join(parts[:length])
        for parts in (file.split("/") for file in graph)
        for length in range(1, len(parts))
    }
    return [
        f"{folder}: {' <-> '.join(group)}"
        for folder in sorted(folders)
        for group in cycles(between_children(graph, folder))
    ]


def upward_imports(crate: ImportGraph) -> list[str]:
    """Returns a line for each import that contradicts `RUNTIME_ORDER`."""
    children = between_children(crate.between_files("runtime"), "runtime")
    return [
        f"runtime: {lower} may not import {upper}"
        for position, lower in enumerate(RUNTIME_ORDER)
        for upper in RUNTIME_ORDER[:position]
        if upper in children.get(lower, set())
    ]


def long_files(sources: Sources) -> list[str]:
    """Returns a line for each file with too many lines."""
    limits = {"runtime/coordinator.rs": 250}
    return [
        f"{file}: {lines} lines; the maximum is {limits.get(file, MAX_LINES)}"
        for file, source in sources.items()
        if (lines := source.count("\n")) > limits.get(file, MAX_LINES)
    ]


def sources_below(folder: Path) -> Sources:
    return {
        file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8")
        for file in sorted(folder.rglob("*.rs"))
    }


@cache
def crate_sources() -> Sources:
    return sources_below(SOURCES)


@cache
def import_graph() -> ImportGraph:
    return ImportGraph(crate_sources())


@pytest.mark.parametrize("layer", ORDERED_LAYERS)
def test_the_files_of_a_layer_form_no_import_cycle(layer: str) -> None:
    found = cycles_of_layer(layer, import_graph())
    assert not set(found) - ALLOWED_CYCLES, "\n".join(found)


def test_every_allowed_cycle_and_long_file_still_exists() -> None:
    found = {each for layer in ORDERED_LAYERS for each in cycles_of_layer(layer, import_graph())}
    assert not ALLOWED_CYCLES - found
    assert not ALLOWED_LONG_FILES - {each.split(":")[0] for each in long_files(crate_sources())}


def test_the_runtime_imports_in_the_declared_order() -> None:
    children = {child_of(file, "runtime") for file in crate_sources()}
    assert not set(RUNTIME_ORDER) - children, "a file or folder was renamed: update RUNTIME_ORDER"
    found = upward_imports(import_graph())
    assert not found, "\n".join(found)


def test_the_extension_files_form_no_import_cycle() -> None:
    extension = SOURCES.parent.parent / "cloaca-python" / "src"
    assert not cycles(ImportGraph(sources_below(extension)).between_files())


@pytest.mark.parametrize("crate", ["cloaca-python", "cloacina-web"])
def test_no_file_of_the_outer_crates_is_long(crate: str) -> None:
    found = long_files(sources_below(SOURCES.parent.parent / crate / "src"))
    assert not found, "\n".join(found)


def test_no_file_of_the_engine_crate_is_long() -> None:
    found = [
        each for each in long_files(crate_sources()) if each.split(":")[0] not in ALLOWED_LONG_FILES
    ]
    assert not found, "\n".join(found)


def test_two_files_that_import_each_other_are_a_cycle() -> None:
    sources = {
        "runtime/mod.rs": "mod a; mod b; mod c; pub use a::A; pub use c::C;",
        "runtime/a.rs": "use super::b::B; pub struct A(B);",
        "runtime/b.rs": "use super::{A, C}; pub struct B;",
        "runtime/c.rs": "pub struct C; #[cfg(test)]\nmod tests { use super::super::b::B; }",
    }
    assert cycles_of_layer("runtime", ImportGraph(sources)) == ["runtime: a.rs <-> b.rs"]


def test_a_folder_counts_as_one_node() -> None:
    sources = {
        "store/mod.rs": "mod queue; mod names; pub use names::Name;",
        "store/names.rs": "use super::queue::inner::Inner; pub struct Name;",
        "store/queue/mod.rs": "pub mod inner; mod outer;",
        "store/queue/inner.rs": "pub struct Inner;",
        "store/queue/outer.rs": "use crate::store::Name;",
    }
    assert cycles_of_layer("store", ImportGraph(sources)) == ["store: names.rs <-> queue"]


def test_a_re_export_that_a_module_uses_is_an_import() -> None:
    sources = {
        "runner/mod.rs": "mod a; pub use a::A; pub enum Message { Of(A) }",
        "runner/a.rs": "use super::Message; pub struct A;",
    }
    assert cycles_of_layer("runner", ImportGraph(sources)) == ["runner: a.rs <-> mod.rs"]
    assert cycles_of_layer("runner", ImportGraph({**sources, "runner/a.rs": "pub struct A;"})) == []


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
def test_an_import_against_the_rules_is_found(file: str, source: str) -> None:
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
        ("engine/plan/tests.rs", "use std::fs;"),
        ("types/time.rs", "let now = SystemTime::now();"),
        ("store/file.rs", "use std::thread; use crate::workflow::Workflow;"),
        ("runner/mod.rs", "use crate::{engine, runtime, store, types, workflow};"),
    ],
)
def test_an_import_within_the_rules_is_accepted(file: str, source: str) -> None:
    assert violations(Path(file), source) == []
