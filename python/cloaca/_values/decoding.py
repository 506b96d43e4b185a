"""Decoders of values: from JSON text to a value of an annotated type (semantics J4, J6).

If an annotation contains a type of pydantic, pydantic decodes the value. If the annotation contains
a constraint of `annotated_types`, pydantic decodes the value strictly, because msgspec ignores such
constraints. The same applies to an `Enum` of floats, or of several of JSON's simple types, which
msgspec cannot decode. Otherwise msgspec decodes the value. Each library is imported when it
is first needed.
"""

from __future__ import annotations

import sys

from cloaca._values.annotation_parts import contains, first_part, hints_of
from cloaca._values.annotations import own_annotations
from cloaca._values.constraints import has_constraints, refuse_ignored, refused_constraint
from cloaca._values.decoding_errors import Undecodable, Unreadable
from cloaca._values.encoding import encode_as, plain
from cloaca._values.exceptions import TaskTimeoutError
from cloaca._values.kinds import kinds_of_info
from cloaca._values.pydantic_models import (
    PydanticShape,
    has_pydantic,
    is_encoded,
    pydantic_decoder,
    special_encoder,
)
from cloaca._values.shapes import InfoShape
from cloaca._values.text_keys import has_other_keys, is_mixed_enum, is_other_enum, unusable_key
from cloaca._values.type_name import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from cloaca._values.kinds import Kinds
    from cloaca._values.shapes import Shape

__all__ = ["Decoder", "Undecodable", "Unreadable", "is_plain"]


class Decoder:
    """Decodes JSON text to values of one annotated type."""

    __slots__ = (
        "_dump",
        "_is_encoded",
        "_is_strict",
        "_run",
        "accepts_null",
        "annotation",
        "converts",
        "has_text_keys",
        "kinds",
        "library",
        "stored_kinds",
    )

    def __init__(self, annotation: Any) -> None:
        """Make the decoder of an annotation.

        Raises:
            Unreadable: The library cannot decode the annotated type, would ignore a constraint, or
                is not installed.
        """
        self.annotation = annotation
        is_lax = has_pydantic(annotation)
        is_constrained = self._is_strict = not is_lax and has_constraints(annotation)
        self.library = "pydantic" if is_lax or is_constrained else "msgspec"
        refuse_ignored(annotation, self.library)
        make = _constrained if is_constrained else pydantic_decoder if is_lax else _msgspec
        self._run: Callable[[str], Any]
        #: The kinds of JSON values that the decoder accepts; `None` if they are not known.
        self.kinds: Kinds
        #: The kinds of JSON in which values of the type are stored; `None` if they are not known.
        self.stored_kinds: Kinds
        try:
            self._run, self.kinds, self.stored_kinds = make(annotation)
        except Unreadable as error:
            if make is not _msgspec or not contains(annotation, is_mixed_enum):
                raise
            self.library, self._is_strict = "pydantic", True
            self._run, self.kinds, self.stored_kinds = _with_mixed_enums(annotation, error)
        #: Whether the annotation has objects whose keys are not strings.
        self.has_text_keys = has_other_keys(annotation)
        if self.has_text_keys:
            # A model of pydantic may convert such keys itself.
            key = unusable_key(annotation, in_classes=not is_lax)
            if key is not None:
                raise Unreadable(
                    f"keys of JSON objects are strings, and a key of type {_shown(key)} has no "
                    "text",
                    hint="use a list of pairs",
                )
        # The function by which pydantic converts values of its own types to JSON.
        self._dump = special_encoder(annotation) if is_lax else None
        self._is_encoded = self._dump is not None and is_encoded(annotation)
        #: Whether `plain` must convert values before they are stored.
        self.converts = self.has_text_keys or self._dump is not None
        #: Whether the decoder accepts null.
        self.accepts_null = self._takes("null")

    def decode(self, text: str) -> Any:
        """Returns the value of a JSON text.

        Raises:
            Undecodable: The text does not match the annotation.
        """
        try:
            return self._run(text)
        except (Undecodable, MemoryError, TaskTimeoutError):
            raise
        except RecursionError:
            raise Undecodable("", "it is nested too deeply") from None
        except Exception as error:
            # Validators and `__post_init__` of a model may raise any exception.
            message = str(error)
            name = type_name(type(error))
            raise Undecodable("", f"{name}: {message}" if message else name) from error

    def plain(self, value: object) -> object:
        """Return the JSON form from which `decode` restores a value of the annotated type.

        Raises:
            TypeError: A part of the value has no JSON form.
            ValueError: The value is nested too deeply, or contains NaN or an infinity.
        """
        return self._plain(value, dumps_first=self._is_encoded)

    def plain_input(self, value: object) -> object:
        """Return the JSON form of a caller's value, which is JSON or a value of the annotated type.

        Raises:
            TypeError: A part of the value has no JSON form.
            ValueError: The value is nested too deeply, or contains NaN or an infinity.
        """
        return self._plain(value, dumps_first=False)

    def _plain(self, value: object, *, dumps_first: bool) -> object:
        if self._dump is not None and dumps_first:
            value = self._dump(value)
        try:
            return plain(value, has_text_keys=self.has_text_keys)
        except TypeError:
            if self._dump is None or dumps_first:
                raise
        return plain(self._dump(value), has_text_keys=self.has_text_keys)

    def encode(self, what: str, value: object) -> str:
        """Return the JSON text of a value of the annotated type; see `encode_as`."""
        return encode_as(what, value, self.plain if self.converts else None)

    def _takes(self, text: str) -> bool:
        try:
            self.decode(text)
        except Undecodable:
            return False
        return True

    def shape(self, *, stored: bool) -> Shape:
        """Return the shape of the values that the decoder accepts.

        Args:
            stored: Whether to return the shape of the values that are stored instead.
        """
        if self.library == "pydantic":
            return PydanticShape([self.annotation], stored=stored, is_strict=self._is_strict)
        import msgspec

        return InfoShape([msgspec.inspect.type_info(self.annotation)], stored=stored)

    def schema(self) -> dict[str, Any]:
        """Returns the JSON schema of accepted values.

        If the annotation is a model, the top level is the schema of the model, not a reference.
        """
        found = self._schema_of(self.annotation)
        reference = found.get("$ref")
        definitions = found.get("$defs", {})
        if not isinstance(reference, str):
            return found
        name = reference.rpartition("/")[2]
        top: dict[str, Any] = dict(definitions.get(name, {}))
        if repr(reference) in repr(definitions):
            top["$defs"] = definitions  # the model contains itself
        elif rest := {key: value for key, value in definitions.items() if key != name}:
            top["$defs"] = rest
        return top

    def field_schema(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the JSON schema of a field with the annotation, and the schemas of its models."""
        from types import GenericAlias

        # As an item of a list, a model has a schema that only refers to the model's definition.
        found = self._schema_of(GenericAlias(list, (self.annotation,)))
        return found["items"], found.get("$defs", {})

    def _schema_of(self, annotation: Any) -> dict[str, Any]:
        if self.library == "pydantic":
            from pydantic import TypeAdapter

            found: dict[str, Any] = TypeAdapter(annotation).json_schema(by_alias=False)
            return found
        import msgspec

        found = msgspec.json.schema(annotation, schema_hook=_any_schema)
        return found


def is_plain(annotation: object) -> bool:
    """Returns whether an annotation accepts every JSON value unchanged and needs no decoder."""
    if annotation is object:
        return True
    typing: Any = sys.modules.get("typing")
    # A function with the type `Never` or `NoReturn` returns no value that could be decoded.
    return typing is not None and annotation in (typing.Any, typing.Never, typing.NoReturn)


def _constrained(annotation: Any) -> tuple[Callable[[str], Any], Kinds, Kinds]:
    """Returns the strict decoder of an annotation with constraints that only pydantic checks."""
    try:
        import pydantic  # noqa: F401
    except ImportError:
        raise refused_constraint(annotation, "it is not installed") from None
    try:
        return pydantic_decoder(annotation, is_strict=True)
    except Unreadable as error:
        raise refused_constraint(annotation, f"it cannot decode the type: {error}") from None


def _with_mixed_enums(
    annotation: Any, refusal: Unreadable
) -> tuple[Callable[[str], Any], Kinds, Kinds]:
    """Returns the strict decoder of pydantic.

    Raises:
        Unreadable: pydantic is not installed, or cannot decode the annotation, or the annotation
            contains bytes or an `Enum` of other values.
    """
    other = first_part(annotation, is_other_enum)
    if other is not None:
        _msgspec(other)  # raises the error about this enum
    if contains(annotation, lambda part: part in (bytes, bytearray)):
        raise Unreadable("bytes are not JSON")
    try:
        import pydantic  # noqa: F401
    except ImportError:
        raise Unreadable(
            str(refusal), hint="install pydantic, which decodes all enums: pip install pydantic"
        ) from None
    refuse_ignored(annotation, "pydantic")
    return pydantic_decoder(annotation, is_strict=True)


def _msgspec(annotation: Any) -> tuple[Callable[[str], Any], Kinds, Kinds]:
    """Returns a function that decodes JSON text, with its accepted kinds and the stored kinds."""
    try:
        import msgspec
    except ImportError:
        raise Unreadable(
            "msgspec, which decodes annotated values, is not installed: run pip install msgspec"
        ) from None
    try:
        try:
            info = msgspec.inspect.type_info(annotation)
        except NameError:
            # The annotations of a class that a function defines may be text with names of local
            # classes.
            _evaluate_classes(annotation, set())
            info = msgspec.inspect.type_info(annotation)
        parts = list(_types_in(info))
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
    """Replaces the annotations that classes contain as text with the values of the annotations."""
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
    """Returns a value that is annotated with `object`, unchanged."""
    return value


def _types_in(info: Any) -> Iterator[Any]:
    """Yields a type of `msgspec.inspect` and all types inside it, each model once."""
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
