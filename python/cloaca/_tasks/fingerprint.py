"""A hash of a function that changes with its code, but not with the release of Python (A4).

The hash covers the syntax tree of the function's source, the values of the function's defaults, and
the plain values that the function closes over: numbers, strings, `None`, and lists, dicts and sets.
For a very large collection, the hash covers only the length.

The hash does not cover other objects that the function closes over, decorators, annotations,
docstrings, comments and positions. It also ignores empty fields of the tree, because new releases
of Python add such fields. Two ways to write the same tree (quotes, parentheses, line breaks) give
the same hash. If there is no source (a REPL without history, `exec`), the compiled code is hashed,
which differs between releases of Python.

The text of a node is `(Class field=value …)` with the fields in alphabetical order. The hash is
BLAKE2b with a digest of 8 bytes, written as 16 hex characters. Its input is `cloaca-fingerprint-1`,
and the texts of the function, of its defaults and closure, and of the function that it wraps.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock
from types import CodeType, FunctionType

from cloaca._values.annotations import call_method
from cloaca._values.type_name import public_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterator
    from hashlib import blake2b
    from typing import Any

_IGNORED_FIELDS = frozenset(
    {"annotation", "ctx", "decorator_list", "kind", "returns", "type_comment", "type_params"}
)
# The types of the values whose text is hashed if a function closes over them.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)
# Maximum number of attempts to find the function's last line. The last attempt parses the rest of
# the file.
_MAX_TRIES = 32
# Maximum number of parts, and maximum depth, of a value that a function closes over or has as a
# default. Beyond these limits, only types and lengths are hashed.
_MAX_PARTS = 100_000
_MAX_DEPTH = 50
# Maximum length of a string that is written out, in characters or bytes. For a longer string, its
# length and hash are written.
_MAX_TEXT = 100_000

_sources: dict[CodeType, str] = {}
# The files that were read without `linecache`: their sizes, times of modification, and lines.
_files: dict[str, tuple[int, float, list[str]]] = {}
# Some releases of Python count the depth of a tree for the whole process, so threads that parse at
# the same time interfere ("AST constructor recursion depth mismatch").
_parsing = allocate_lock()


def _after_fork() -> None:
    global _parsing
    _parsing = allocate_lock()


os.register_at_fork(after_in_child=_after_fork)


def fingerprint(function: Callable[..., object]) -> str:
    """Returns the hash of a function's code, constants and defaults: 16 hex characters.

    Args:
        function: A function, method, partial or callable object.
    """
    digest = _blake2b()(b"cloaca-fingerprint-1", digest_size=8)
    for part in _hashed_texts(function):
        digest.update(b"\0")
        digest.update(part.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _blake2b() -> type[blake2b]:
    """Returns the class `hashlib.blake2b`, without loading OpenSSL if possible."""
    try:
        from _blake2 import blake2b
    except ImportError:  # another implementation of Python
        from hashlib import blake2b
    return blake2b


def _hashed_texts(function: Any) -> Iterator[str]:
    """Yields the texts to hash for a callable: a function, partial, method, object or wrapper."""
    for _ in range(32):
        if type(function) is FunctionType:
            yield _code_text(function)
            yield _value_text((function.__defaults__, function.__kwdefaults__))
            yield from _closure_texts(function)
            function = getattr(function, "__wrapped__", None)
            if function is None:
                return
        elif hasattr(function, "func") and hasattr(function, "keywords"):
            yield f"partial {_value_text((function.args, function.keywords))}"
            function = function.func
        elif hasattr(function, "__func__"):
            function = function.__func__
        elif type(call_method(type(function))) is FunctionType:
            function = call_method(type(function))
        else:
            yield f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
            return


def _closure_texts(function: FunctionType) -> Iterator[str]:
    """Yields the names and texts of the plain values that a function closes over."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:
            continue  # the variable has no value yet
        if isinstance(value, _PLAIN):
            yield f"closure {name}={_value_text(value)}"


def _value_text(value: object, budget: int = _MAX_PARTS, above: tuple[int, ...] = ()) -> str:
    """Returns the text of a value, without the parts that differ between processes.

    The text of `cloaca.result` contains the id of its task. The text of another object contains
    only its type.

    Args:
        value: The value.
        budget: Maximum number of parts. The text of a larger collection contains only its length.
            The elements share the remaining budget equally, so that the order of a set does not
            matter.
        above: The ids of the collections that contain the value.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return f"{type(value).__name__}:{_scalar_text(value)}"
    if hasattr(type(value), "_version_text"):
        return str(value._version_text())  # type: ignore[attr-defined]
    if not isinstance(value, (list, tuple, dict, set, frozenset)):
        return f"{public_module(type(value))}.{type(value).__qualname__}"
    size = len(value)
    if id(value) in above or len(above) >= _MAX_DEPTH or size > budget:
        return f"{type(value).__name__} of {size}"
    share = (budget - size) // max(size, 1)
    above = (*above, id(value))

    def text(part: object) -> str:
        return _value_text(part, share, above)

    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(text, value))}]"
    if isinstance(value, dict):
        pairs = (f"{text(key)}={text(part)}" for key, part in value.items())
        return f"{{{','.join(sorted(pairs))}}}"
    return f"{{{','.join(sorted(map(text, value)))}}}"


def _scalar_text(value: object) -> str:
    """Returns the text of a constant; for a long string, the length and a hash of the string."""
    try:
        if isinstance(value, (str, bytes)) and len(value) > _MAX_TEXT:
            data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
            return f"{len(value)} {_blake2b()(data).hexdigest()}"
        return repr(value)
    except ValueError:
        return hex(value)  # type: ignore[arg-type]  # `repr` refuses an integer of many digits


def _code_text(function: FunctionType) -> str:
    code = function.__code__
    text = _sources.get(code)
    if text is None:
        out: list[str] = []
        try:
            with _parsing:
                _write(_find(code, function.__globals__), out)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            out = []
        text = _sources[code] = "".join(out) or _compiled_text(code)
    return text


def _find(code: CodeType, module: dict[str, Any]) -> ast.AST:
    """Returns the syntax tree of a function, from its source.

    Raises:
        ValueError: The function was not found in the source.
        SyntaxError: The source is not Python.
    """
    node = _find_in(_lines(code.co_filename, module), code)
    lines = _changed_lines(code.co_filename)
    if lines and not _defines(node, code):
        # The module was probably reloaded after its file had changed.
        try:
            changed = _find_in(lines, code)
        except (ValueError, SyntaxError):
            return node
        return changed if _defines(changed, code) else node
    return node


def _lines(path: str, module: dict[str, Any]) -> list[str]:
    """Returns the lines of a source. Other modules may have put it into the cache of `linecache`.

    Reads a file in UTF-8 without `linecache`, because loading that module takes milliseconds.
    """
    if path not in _files and "linecache" not in sys.modules:
        try:
            found = os.stat(path)  # noqa: PTH116 - pathlib is not imported otherwise
            with open(path, encoding="utf-8") as file:  # noqa: PTH123
                lines = file.readlines()
            if lines and not any("coding" in line for line in lines[:2]):
                lines[0] = lines[0].removeprefix("\ufeff")
                lines[-1] = lines[-1].removesuffix("\n") + "\n"
                _files[path] = (found.st_size, found.st_mtime, lines)
        except (OSError, ValueError):
            pass  # no file, or another encoding
    if path in _files:
        return _files[path][2]
    import linecache

    return linecache.getlines(path, module)


def _changed_lines(path: str) -> list[str]:
    """Returns all lines of a file if the file changed after it was read, else no lines."""
    cached: tuple[Any, ...] = _files.get(path, ())
    if not cached:
        import linecache

        cached = linecache.cache.get(path, ())
    if len(cached) < 3 or cached[1] is None:
        return []
    try:
        now = os.stat(path)  # noqa: PTH116 - pathlib is not imported otherwise
        if (now.st_size, now.st_mtime) == (cached[0], cached[1]):
            return []
        import tokenize

        with tokenize.open(path) as file:
            return file.readlines()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return []


def _defines(node: ast.AST, code: CodeType) -> bool:
    """Returns whether a function's syntax tree compiles to the given code."""
    import ast

    holder = ast.Module([ast.Expr(node) if isinstance(node, ast.Lambda) else node], [])  # type: ignore[list-item]
    try:
        compiled = compile(ast.fix_missing_locations(holder), code.co_filename, "exec")
    except (SyntaxError, ValueError):
        return False  # for example `nonlocal`, whose variable belongs to an enclosing function
    plain = [value for value in code.co_consts if not isinstance(value, CodeType)]
    return any(
        isinstance(found, CodeType)
        and found.co_name == code.co_name
        and (found.co_code, found.co_names) == (code.co_code, code.co_names)
        and [value for value in found.co_consts if not isinstance(value, CodeType)] == plain
        for found in compiled.co_consts
    )


def _find_in(lines: list[str], code: CodeType) -> ast.AST:
    """Returns the syntax tree of a function, from the lines of its file.

    Raises:
        ValueError: The function was not found in the source.
        SyntaxError: The source is not Python.
    """
    first = code.co_firstlineno - 1
    if not 0 <= first < len(lines):
        raise ValueError("no source")
    if code.co_name == "<lambda>":
        return _find_lambda(lines, code.co_firstlineno)
    return _find_def(lines, first, code.co_name)


def _find_def(lines: list[str], first: int, name: str) -> ast.AST:
    """Finds the end of a function by its indentation, and parses the function.

    If the line that seems to end the function is inside brackets or a string, the text does not
    parse, and a later line is tried.
    """
    for top in range(first, len(lines)):
        if _begins_def(lines[top], name):
            break
    else:
        raise ValueError("no definition")
    indent = _indent_of(lines[top])
    tries = 0
    for end in range(top + 1, len(lines) + 1):
        if end < len(lines) and not _ends_block(lines[end], indent):
            continue
        tries += 1
        bottom = end if tries < _MAX_TRIES else len(lines)
        # The `if` makes the indentation valid. Removing the indentation would change multi-line
        # strings.
        text = "".join(lines[top:bottom])
        try:
            tree = _parse(f"if 1:\n{text}" if indent else text)
        except SyntaxError:
            if bottom == len(lines):
                raise
            continue
        holder = tree.body[0]
        node: ast.AST = holder.body[0] if type(holder).__name__ == "If" else holder
        return node
    raise ValueError("no definition")


def _parse(text: str) -> Any:
    """Does what `ast.parse` does, without loading the module `ast`, which takes milliseconds."""
    from _ast import PyCF_ONLY_AST

    for _ in range(100):
        try:
            return compile(text, "<unknown>", "exec", PyCF_ONLY_AST, dont_inherit=True)
        except SystemError:
            continue  # another thread of the program is parsing at the same time
    raise ValueError("cannot be parsed now")


def _ends_block(line: str, indent: int) -> bool:
    stripped = line.strip()
    if not stripped or stripped.startswith("#"):
        return False
    return _indent_of(line) <= indent


def _indent_of(line: str) -> int:
    expanded = line.expandtabs()
    return len(expanded) - len(expanded.lstrip())


def _begins_def(line: str, name: str) -> bool:
    """Returns whether a line begins with `def name` or `async def name`."""
    words = line.split(None, 3)
    if words[:1] == ["async"]:
        del words[0]
    if len(words) < 2 or words[0] != "def" or not words[1].startswith(name):
        return False
    after = words[1][len(name) : len(name) + 1]
    return not (after.isalnum() or after == "_")


def _find_lambda(lines: list[str], line: int) -> ast.AST:
    """Returns the only lambda that begins on the line."""
    import ast

    tree = _parse("".join(lines))
    found = [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and n.lineno == line]
    if len(found) != 1:
        raise ValueError("several lambdas on one line")
    return found[0]


def _write(value: Any, out: list[str]) -> None:
    """Appends the canonical text of a part of a tree."""
    if isinstance(value, list):
        for part in value:
            _write(part, out)
            out.append(",")
    elif not hasattr(value, "_fields"):
        out.append(_constant_text(value))
    else:
        out.append(f"({type(value).__name__}")
        for field in sorted(value._fields):
            part = getattr(value, field, None)
            # This also drops the value of `Constant(None)`. The text stays unambiguous, because
            # every other constant writes its value.
            if field in _IGNORED_FIELDS or part is None or part == []:
                continue
            if field == "body" and isinstance(part, list):
                part = _without_docstring(value, part)
            elif type(value).__name__ == "JoinedStr":
                part = _joined(part)
            out.append(f" {field}=")
            _write(part, out)
        out.append(")")


def _constant_text(value: object) -> str:
    if isinstance(value, (tuple, frozenset)):
        parts = list(map(_constant_text, value))
        if isinstance(value, frozenset):
            parts.sort()
        return f"{type(value).__name__}({','.join(parts)})"
    return f"{type(value).__name__}:{_scalar_text(value)}"


def _without_docstring(holder: ast.AST, body: list[Any]) -> list[Any]:
    if type(holder).__name__ not in {"FunctionDef", "AsyncFunctionDef", "ClassDef"}:
        return body
    first = getattr(body[0], "value", None) if type(body[0]).__name__ == "Expr" else None
    return body[1:] if isinstance(getattr(first, "value", None), str) else body


def _joined(parts: list[Any]) -> list[Any]:
    """Joins adjacent texts of an f-string, because releases of Python split them differently."""
    joined: list[Any] = []
    for part in parts:
        text = part.value if type(part).__name__ == "Constant" else part
        if isinstance(text, str) and joined and isinstance(joined[-1], str):
            joined[-1] += text
        elif text != "":
            joined.append(text)
    return joined


def _compiled_text(code: CodeType) -> str:
    """Returns the text to hash for a function without source."""
    constants = [
        _compiled_text(part) if isinstance(part, CodeType) else _constant_text(part)
        for part in code.co_consts
    ]
    return f"{code.co_code.hex()} {constants} {code.co_names} {code.co_varnames} {code.co_freevars}"
