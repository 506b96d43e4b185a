"""Reads the annotations of functions, even if they contain names that only type checkers import."""

from __future__ import annotations

import sys

from cloaca._values.type_name import public_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def call_method(kind: type) -> Any:
    """Returns the `__call__` that a class or its base defines; `None` if there is none."""
    return next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)


def underlying(function: Any) -> Any:
    """Returns the function that a partial, method, callable object or wrapper calls."""
    for _ in range(32):
        if hasattr(function, "func") and not hasattr(function, "__code__"):
            function = function.func
        elif hasattr(function, "__func__"):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif hasattr(function, "__code__") or isinstance(function, type):
            return function
        else:
            call = call_method(type(function))
            if not hasattr(call, "__code__"):
                return function
            function = call
    return function


def raw_annotations(function: Any) -> Mapping[str, Any]:
    """Returns the annotations of a function without evaluating them.

    An annotation is a value, a string, or a forward reference.
    """
    function = underlying(function)
    if sys.version_info >= (3, 14):
        # Reading `__annotations__` evaluates all annotations, and fails if a name does not exist.
        if getattr(function, "__annotate__", None) is not None:
            from annotationlib import Format, get_annotations

            return get_annotations(function, format=Format.FORWARDREF)
    found = getattr(function, "__annotations__", None)
    return found if isinstance(found, dict) else {}


def own_annotations(kind: type) -> Mapping[str, Any]:
    """Returns the annotations of a class without its bases, and without evaluating them."""
    if sys.version_info >= (3, 14):
        # The class computes its annotations when they are first read.
        from annotationlib import Format, get_annotations

        return get_annotations(kind, format=Format.FORWARDREF)
    found: dict[str, Any] = vars(kind).get("__annotations__", {})
    return found


def names(annotation: object, class_name: str, function: Any) -> bool:
    """Returns whether a written annotation is a class of cloaca, or the union of it and `None`.

    If the annotation is a string, only a name such as `Context` or `cloaca.Context` is looked up,
    also with `| None` and in `Optional`, `Union` and `Annotated`; any other expression returns
    false. A name that does not exist at run time, because only type checkers import it, matches if
    its last part is `class_name`.

    Args:
        annotation: The annotation as it is written.
        class_name: The name of the class, such as `Context`.
        function: The annotated function. Names are looked up in its module and its closure.
    """
    annotation = _forwarded(annotation)
    if not isinstance(annotation, str):
        # A part of `Optional` can be a string, too.
        annotation = _forwarded(without_none(annotation)[0])
    if not isinstance(annotation, str):
        return _is_own(annotation, class_name)
    text = _text_without_none("".join(annotation.split()).replace("'", "").replace('"', ""))
    first, *more = text.split(".")
    if not all(part.isidentifier() for part in (first, *more)):
        return False
    for known in _namespaces(underlying(function)):
        if first in known:
            found: Any = known[first]
            for part in more:
                found = getattr(found, part, None)
            return _is_own(without_none(found)[0], class_name)
    return text.rpartition(".")[2] == class_name


def _forwarded(annotation: Any) -> Any:
    """Returns the text of a forward reference; returns any other annotation unchanged."""
    return getattr(annotation, "__forward_arg__", annotation)


def _text_without_none(text: str) -> str:
    """Does the same as `without_none` for an annotation that is a string without spaces."""
    while True:
        outer, _, inner = text.partition("[")
        kind = outer.rpartition(".")[2]
        if kind in {"Optional", "Union"} and text.endswith("]"):
            text = inner[:-1].removesuffix(",").removesuffix(",None").removeprefix("None,")
        elif kind == "Annotated" and text.endswith("]"):
            text = inner[:-1].partition(",")[0]
        else:
            shorter = text.removesuffix("|None").removeprefix("None|")
            if shorter == text:
                return text
            text = shorter


def without_none(annotation: Any) -> tuple[Any, bool]:
    """Returns an annotation without its metadata and without `None`.

    Returns:
        A type, and whether `None` was removed. `None` is removed only from a union of `None` and
        one type; another union is returned unchanged.
    """
    accepts_none = False
    while True:
        kind = type(annotation).__name__
        if kind == "_AnnotatedAlias":
            annotation = annotation.__origin__
        elif kind == "TypeAliasType":
            annotation = annotation.__value__
        elif _is_union(annotation):
            rest = [part for part in annotation.__args__ if part is not type(None)]
            if len(rest) != 1:
                return annotation, accepts_none
            annotation, accepts_none = rest[0], True
        else:
            return annotation, accepts_none


def _is_union(annotation: object) -> bool:
    return type(annotation).__name__ in {"UnionType", "_UnionGenericAlias", "Union"}


def _is_own(kind: object, class_name: str) -> bool:
    return (
        isinstance(kind, type) and kind.__name__ == class_name and public_module(kind) == "cloaca"
    )


def evaluate(name: str, annotation: object, function: Any) -> Any:
    """Returns the value of a written annotation, with its metadata.

    Args:
        name: The parameter's name, for Python's error messages.
        annotation: The annotation as it is written.
        function: The annotated function.

    Raises:
        Exception: Python cannot evaluate the annotation, for example because a name is not defined.
    """
    from types import SimpleNamespace

    function = underlying(function)
    module, closure = _namespaces(function)
    given = {kind.__name__: kind for kind in getattr(function, "__type_params__", ())}
    holder = SimpleNamespace(__annotations__={name: annotation})
    return _hints(holder, dict(module), {**closure, **given})[name]


def class_hints(kind: type) -> dict[str, Any]:
    """Returns the evaluated annotations of a class and its bases.

    Raises:
        NameError: A name is not defined.
    """
    return _hints(kind, None, {})


def _hints(holder: Any, module: dict[str, Any] | None, local: dict[str, Any]) -> dict[str, Any]:
    """Returns the evaluated annotations of a function or class.

    The local names of the calling code are also looked up, because a test may define its classes
    in a function.
    """
    from typing import get_type_hints

    try:
        return get_type_hints(holder, module, local or None, include_extras=True)
    except NameError:
        local = {**_local_names_of_caller(), **local}
        return get_type_hints(holder, module, local, include_extras=True)


def _local_names_of_caller() -> dict[str, Any]:
    """Returns the local names of the nearest calling code outside of this package."""
    from sys import _getframe

    frame = _getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__")).startswith(("cloaca.", "typing")):
        frame = frame.f_back
    return dict(frame.f_locals)


def _namespaces(function: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Returns the names of a function's module, and the variables that the function closes over."""
    module = getattr(function, "__globals__", None) or vars(
        sys.modules.get(getattr(function, "__module__", ""), sys)
    )
    code = getattr(function, "__code__", None)
    closure = {}
    if code is not None:
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                closure[name] = cell.cell_contents
            except ValueError:
                continue  # the variable has no value yet
    return module, closure
