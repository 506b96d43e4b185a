"""Decodes values with pydantic, and finds the JSON kinds of its models (semantics J4, J6)."""

from __future__ import annotations

import re
import sys

from cloaca._values.annotation_parts import contains
from cloaca._values.decoding_errors import Undecodable, Unreadable
from cloaca._values.kinds import (
    ARRAY,
    BOOLEAN,
    NULL,
    NUMBER,
    OBJECT,
    STRING,
    joined,
    kinds_of_schema,
)
from cloaca._values.masked import refuse_masked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from cloaca._values.kinds import Kinds

# Types and metadata of pydantic that change the JSON form of a value.
_ENCODED = frozenset({"EncodedBytes", "EncodedStr", "Json", "PlainSerializer", "WrapSerializer"})
# Matches pydantic's error for a class that it does not know.
_UNKNOWN = re.compile(r"Unable to generate pydantic-core schema for (.+?)\. Set ")
# Validators that may accept values of kinds that the annotated type does not accept.
_EARLY_VALIDATORS = frozenset({"BeforeValidator", "PlainValidator", "WrapValidator"})
# For each type, the kinds of JSON that a strict decoder accepts. These are also the stored kinds.
_SCALARS: dict[type, Kinds] = {
    bool: frozenset({BOOLEAN}),
    float: frozenset({NUMBER}),
    int: frozenset({NUMBER}),
    str: frozenset({STRING}),
}
# The attributes by which pydantic recognises its own classes and those of other packages, such as
# `pydantic_extra_types`.
_OWN_NAMES = (
    "__pydantic_core_schema__",
    "__pydantic_validator__",
    "__get_pydantic_core_schema__",
)


def has_pydantic(annotation: Any) -> bool:
    """Returns whether an annotation is or contains a type of pydantic, at any depth."""
    return "pydantic" in sys.modules and contains(annotation, _is_pydantic)


def _is_pydantic(part: Any) -> bool:
    if any(hasattr(part, name) for name in _OWN_NAMES):
        return True
    fields = getattr(part, "__dataclass_fields__", None)
    if isinstance(part, type) and fields is not None:
        return any(map(_is_field, (field.default for field in fields.values())))
    return _is_field(part)


def _is_field(part: Any) -> bool:
    """Returns whether an object is metadata of pydantic, such as a `Field`."""
    return type(part).__module__.partition(".")[0] in {"pydantic", "pydantic_core"}


def pydantic_decoder(
    annotation: Any, *, is_strict: bool = False
) -> tuple[Callable[[str], Any], Kinds, Kinds]:
    """Returns a function that decodes JSON text, with its accepted kinds and the stored kinds.

    Args:
        annotation: The annotation.
        is_strict: Whether values are decoded as strictly as by msgspec. This is the case for an
            annotation without types of pydantic, which pydantic decodes only because of its
            constraints.

    Raises:
        Unreadable: pydantic cannot decode the annotation.
    """
    from inspect import signature

    from pydantic import TypeAdapter, ValidationError

    from cloaca._values.exact_numbers import ExactNumbers

    try:
        adapter: Any = TypeAdapter(annotation)
        numbers = ExactNumbers(adapter.core_schema, has_iso_durations=is_strict)
    except Exception as error:
        raise _unreadable(str(error).partition("\n")[0]) from None
    # A model is stored under the names of its fields, but the fields may have aliases, so both are
    # accepted. Older releases of pydantic do not have the options `by_alias` and `by_name`.
    known = signature(adapter.validate_json).parameters
    options = {"by_alias": True, "by_name": True} if "by_name" in known else {}
    if is_strict:
        options["strict"] = True

    def run(text: str) -> Any:
        try:
            return adapter.validate_json(numbers.rewritten(text), **options)
        except ValidationError as error:
            raise _undecodable(error.errors(include_url=False, include_context=False)) from None

    accepted = _kinds(annotation, stored=False, is_strict=is_strict)
    return run, accepted, _kinds(annotation, stored=True, is_strict=is_strict)


def _unreadable(reason: str) -> Unreadable:
    """Returns the error for an annotation that pydantic cannot decode."""
    unknown = _UNKNOWN.match(reason)
    if unknown is None:
        return Unreadable(reason)
    name = unknown[1].removeprefix("<class '").removesuffix("'>")
    return Unreadable(
        f"pydantic cannot decode {name}, and no other library decodes the types of pydantic "
        "in the annotation",
        hint="put the types of the two libraries in separate fields or parameters",
    )


def special_encoder(annotation: Any) -> Callable[[Any], Any] | None:
    """Returns the function with which pydantic converts values of an annotation to JSON.

    Returns `None` if the annotation has no types of pydantic besides models. The values are then
    encoded like other values.
    """
    if not contains(annotation, _is_special):
        return None
    from pydantic import TypeAdapter
    from pydantic_core import PydanticSerializationError

    adapter: Any = TypeAdapter(annotation)

    def dump(value: Any) -> Any:
        try:
            found = adapter.dump_python(
                value, mode="json", by_alias=False, round_trip=True, warnings="error"
            )
        except PydanticSerializationError:
            return value  # the value is not of the annotated type, but may have a JSON form
        refuse_masked(value, found)
        return found

    return dump


def is_encoded(annotation: Any) -> bool:
    """Returns whether an annotation's values are stored in a form other than their ordinary JSON.

    For example, the decoded value of a `Json` or a `Base64Str` could not be decoded again from its
    ordinary JSON.
    """
    return contains(annotation, lambda part: bool({_name(part), _name(type(part))} & _ENCODED))


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", "")


def _is_special(part: Any) -> bool:
    """Returns whether a part is a type or metadata of pydantic, but not a model."""
    return _is_pydantic(part) and not hasattr(part, "__pydantic_validator__")


def stored_kinds_of_field(model: Any, name: str) -> Kinds:
    """Returns the kinds of JSON that a field of a pydantic model has when the model is stored."""
    if model.__pydantic_decorators__.model_serializers:
        return None
    for serializer in model.__pydantic_decorators__.field_serializers.values():
        if name in serializer.info.fields or "*" in serializer.info.fields:
            return None
    field = model.model_fields[name]
    if any(map(_is_serializer, field.metadata)) or contains(field.annotation, _is_serializer):
        return None
    from pydantic import TypeAdapter

    try:
        schema = TypeAdapter(model).json_schema(mode="serialization", by_alias=False)
    except Exception:
        return None
    definitions = schema.get("$defs", {})
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return kinds_of_schema(schema.get("properties", {}).get(name), definitions)


class PydanticShape:
    """The shape of one or several annotations that pydantic decodes; see `shapes.Shape`."""

    __slots__ = ("_annotations", "_is_strict", "_stored")

    def __init__(self, annotations: Iterable[Any], *, stored: bool, is_strict: bool) -> None:
        """Make a shape.

        Args:
            annotations: The annotations. A value matches one of them.
            stored: Whether to describe the values that are stored, instead of accepted values.
            is_strict: Whether values are decoded strictly; see `pydantic_decoder`.
        """
        self._annotations = tuple(annotations)
        self._stored = stored
        self._is_strict = is_strict

    @property
    def kinds(self) -> Kinds:
        """The kinds of the values; `None` if they are not known."""
        return joined(
            _kinds(part, stored=self._stored, is_strict=self._is_strict)
            for part in self._annotations
        )

    def elements(self) -> PydanticShape | None:
        """Return the shape of the elements, for values that are arrays."""
        if self.kinds is None:
            return None
        found: list[Any] = []
        for part in map(_without_metadata, _parts_of_unions(self._annotations)):
            inner = _element_annotations(part)
            if inner is None:
                return None
            found += inner
        return self._with(found) if found else None

    def field(self, name: str) -> PydanticShape | None:
        """Return the shape of a field, for values that are objects."""
        models = [part for part in _parts_of_unions(self._annotations) if part is not type(None)]
        (model,) = models if len(models) == 1 else (None,)
        if self.kinds is None or name not in getattr(model, "model_fields", {}):
            return None
        return shape_of_field(model, name)

    def _with(self, annotations: list[Any]) -> PydanticShape:
        return PydanticShape(annotations, stored=self._stored, is_strict=self._is_strict)


def shape_of_field(model: Any, name: str) -> PydanticShape | None:
    """Returns the shape of a field of a stored pydantic model; `None` if it is not known."""
    if stored_kinds_of_field(model, name) is None:
        return None
    # A strict shape also knows the kinds of numbers and texts, which are not known if the decoder
    # converts them.
    return PydanticShape([model.model_fields[name].annotation], stored=True, is_strict=True)


def _parts_of_unions(annotations: Iterable[Any]) -> list[Any]:
    from typing import Union, get_args, get_origin

    found: list[Any] = []
    for part in annotations:
        is_union = get_origin(part) is Union or type(part).__name__ == "UnionType"
        found += _parts_of_unions(get_args(part)) if is_union else [part]
    return found


def _without_metadata(annotation: Any) -> Any:
    from typing import Annotated, get_args, get_origin

    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _element_annotations(annotation: Any) -> list[Any] | None:
    """Returns the annotations of an array's elements; an empty list for other types.

    Returns `None` if the elements are not known.
    """
    from typing import get_args, get_origin

    kind, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if not isinstance(kind, type) or not issubclass(kind, (list, tuple, set, frozenset)):
        return []
    if kind not in {list, tuple, set, frozenset} or not arguments:
        return None
    return [part for part in arguments if part is not Ellipsis]


def _is_serializer(part: Any) -> bool:
    return type(part).__name__ in {"PlainSerializer", "WrapSerializer"}


def _undecodable(errors: list[Any]) -> Undecodable:
    """Returns the error of the parts that do not match."""
    (path, reason), *others = ((_path(error["loc"]), error["msg"]) for error in errors)
    return Undecodable(path, reason, tuple(others))


def _path(location: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _kinds(annotation: Any, *, stored: bool, is_strict: bool) -> Kinds:
    from functools import partial
    from typing import Annotated, Union, get_args, get_origin

    inner = partial(_kinds, stored=stored, is_strict=is_strict)

    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        changing = _ENCODED if stored else _EARLY_VALIDATORS
        if any({_name(part), _name(type(part))} & changing for part in arguments[1:]):
            return None
        return inner(arguments[0])
    if origin is Union or type(annotation).__name__ == "UnionType":
        return joined(map(inner, arguments))
    if annotation is type(None):
        return frozenset({NULL})
    kind = origin if isinstance(origin, type) else annotation
    if not isinstance(kind, type):
        return None
    if is_strict and kind in _SCALARS:
        return _SCALARS[kind]
    if issubclass(kind, (list, tuple, set, frozenset)):
        return frozenset({ARRAY})
    if hasattr(kind, "__pydantic_decorators__"):
        return _kinds_of_model(kind, stored=stored)
    if issubclass(kind, dict) or hasattr(kind, "__dataclass_fields__"):
        return frozenset({OBJECT})
    return None


def _kinds_of_model(kind: Any, *, stored: bool) -> Kinds:
    """Returns the kinds of a model: objects; unknown if a validator or serializer changes them."""
    from pydantic import BaseModel

    decorators = kind.__pydantic_decorators__
    if stored and decorators.model_serializers:
        return None
    validators = [*decorators.model_validators.values(), *decorators.root_validators.values()]
    if not stored and any(validator.info.mode != "after" for validator in validators):
        return None
    if not issubclass(kind, BaseModel):
        return frozenset({OBJECT})  # a dataclass of pydantic
    own_schema: Any = kind.__get_pydantic_core_schema__
    if kind.__pydantic_root_model__ or own_schema.__func__ is not _core_schema_of(BaseModel):
        return None
    return frozenset({OBJECT})


def _core_schema_of(kind: Any) -> object:
    return kind.__get_pydantic_core_schema__.__func__
