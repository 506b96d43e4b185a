"""Decoders turn the JSON text of a value into what an annotation describes (semantics J4, J6).

An annotation that contains a pydantic model is read by pydantic, any other by msgspec. Each library
is imported when the first such annotation is read.
"""

from __future__ import annotations

import sys

from cloaca._values.annotation_parts import hints_of
from cloaca._values.annotations import own_annotations
from cloaca._values.decoding_errors import Undecodable, Unreadable
from cloaca._values.exceptions import TaskTimeoutError
from cloaca._values.kinds import kinds_of_info
from cloaca._values.pydantic_models import has_pydantic, pydantic_decoder
from cloaca._values.type_name import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from cloaca._values.kinds import Kinds

__all__ = ["Decoder", "Undecodable", "Unreadable", "is_plain"]


class Decoder:
    """Decodes JSON text by an annotation. Made once for each annotation."""

    __slots__ = ("_run", "accepts_null", "annotation", "kinds", "library", "stored_kinds")

    def __init__(self, annotation: Any) -> None:
        """Make the decoder of an annotation.

        Raises:
            Unreadable: The library cannot decode it, or is not installed.
        """
        self.annotation = annotation
        self.library = "pydantic" if has_pydantic(annotation) else "msgspec"
        make = pydantic_decoder if self.library == "pydantic" else _msgspec
        self._run: Callable[[str], Any]
        #: The kinds of JSON that it takes; `None` if they are not known.
        self.kinds: Kinds
        #: The kinds of JSON that its values are stored as; `None` if they are not known.
        self.stored_kinds: Kinds
        self._run, self.kinds, self.stored_kinds = make(annotation)
        #: Whether it takes null.
        self.accepts_null = self._takes("null")

    def decode(self, text: str) -> Any:
        """The value of a JSON text.

        Raises:
            Undecodable: It does not match the annotation.
        """
        try:
            return self._run(text)
        except (Undecodable, MemoryError, TaskTimeoutError):
            raise
        except RecursionError:
            raise Undecodable("", "it is nested too deeply") from None
        except Exception as error:
            # Validators and `__post_init__` of a model may raise anything.
            told = str(error)
            name = type_name(type(error))
            raise Undecodable("", f"{name}: {told}" if told else name) from error

    def _takes(self, text: str) -> bool:
        try:
            self.decode(text)
        except Undecodable:
            return False
        return True

    def schema(self) -> dict[str, Any]:
        """The JSON schema of what it takes, with the model's own properties at the top."""
        if self.library == "pydantic":
            from pydantic import TypeAdapter

            found: dict[str, Any] = TypeAdapter(self.annotation).json_schema(by_alias=False)
        else:
            import msgspec

            found = msgspec.json.schema(self.annotation, schema_hook=_any_schema)
        reference = found.get("$ref")
        definitions = found.get("$defs", {})
        if not isinstance(reference, str):
            return found
        name = reference.rpartition("/")[2]
        top: dict[str, Any] = dict(definitions.get(name, {}))
        if repr(reference) in repr(definitions):
            top["$defs"] = definitions  # it contains itself
        elif rest := {key: value for key, value in definitions.items() if key != name}:
            top["$defs"] = rest
        return top


def is_plain(annotation: object) -> bool:
    """Whether an annotation takes every JSON value as it is, so that it needs no decoder."""
    if annotation is object:
        return True
    typing: Any = sys.modules.get("typing")
    return typing is not None and annotation is typing.Any


def _msgspec(annotation: Any) -> tuple[Callable[[str], Any], Kinds, Kinds]:
    """The function that decodes a text, the kinds that it takes, and those that are stored."""
    try:
        import msgspec
    except ImportError:
        raise Unreadable(
            "msgspec is not installed, which decodes annotated values: pip install msgspec"
        ) from None
    try:
        try:
            info = msgspec.inspect.type_info(annotation)
        except NameError:
            # A class inside a function: its annotations are text that names other local classes.
            _evaluate_classes(annotation, set())
            info = msgspec.inspect.type_info(annotation)
        parts = list(_parts(info))
        decoder: Any = msgspec.json.Decoder(annotation, dec_hook=_any)
    except Exception as error:
        raise Unreadable(str(error)) from None
    for part in parts:
        if isinstance(part, msgspec.inspect.CustomType) and part.cls is not object:
            raise Unreadable(f"msgspec cannot decode {_shown(part.cls)} from JSON")
        if isinstance(part, (msgspec.inspect.BytesType, msgspec.inspect.ByteArrayType)):
            raise Unreadable("bytes are not JSON")
    has_durations = any(isinstance(part, msgspec.inspect.TimeDeltaType) for part in parts)

    def run(text: str) -> Any:
        if has_durations:
            from cloaca._values.durations import with_duration_texts

            text = with_duration_texts(info, text)
        try:
            return decoder.decode(text)
        except msgspec.ValidationError as error:
            reason, _, path = str(error).rpartition(" - at `$")
            if not reason:
                reason, path = str(error), "`"
            raise Undecodable(path[:-1], reason) from None

    return run, kinds_of_info(info, stored=False), kinds_of_info(info, stored=True)


def _evaluate_classes(annotation: Any, seen: set[int]) -> None:
    """Replaces annotations of models that are written as text by their values."""
    from typing import get_args, get_origin

    if id(annotation) in seen:
        return
    seen.add(id(annotation))
    parts = list(get_args(annotation))
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and kind.__module__ != "builtins":
        own = own_annotations(kind)
        hints = hints_of(kind)
        if any(not isinstance(written, type) for written in own.values()):
            kind.__annotations__ = {name: hints.get(name, written) for name, written in own.items()}
        parts += hints.values()
    for part in parts:
        _evaluate_classes(part, seen)


def _any_schema(kind: object) -> dict[str, Any]:
    return {"description": "any JSON value"}


def _any(kind: object, value: object) -> object:
    """Passes a value that is annotated with `object` as it is."""
    return value


def _parts(info: Any) -> Iterator[Any]:
    """A type of `msgspec.inspect` with all types inside of it, each model once."""
    import msgspec

    kinds = msgspec.inspect
    seen: set[int] = set()
    stack: list[Any] = [info]
    while stack:
        part = stack.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        for name in ("item_type", "key_type", "value_type", "type"):
            inner = getattr(part, name, None)
            if isinstance(inner, kinds.Type):
                stack.append(inner)
        stack += getattr(part, "item_types", ())
        if isinstance(part, kinds.UnionType):
            stack += part.types
        stack += [field.type for field in getattr(part, "fields", ())]


def _shown(kind: object) -> str:
    return kind.__qualname__ if isinstance(kind, type) else repr(kind)
