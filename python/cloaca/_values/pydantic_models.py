"""Decoding by pydantic, and the kinds of JSON of its models (semantics J4, J6)."""

from __future__ import annotations

import sys

from cloaca._values.annotation_parts import contains
from cloaca._values.decoding_errors import Undecodable, Unreadable
from cloaca._values.kinds import ARRAY, NULL, OBJECT, joined, kinds_of_schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloaca._values.kinds import Kinds

# Validators that may accept values of kinds that the annotated type does not accept.
_EARLY_VALIDATORS = frozenset({"BeforeValidator", "PlainValidator", "WrapValidator"})


def has_pydantic(annotation: Any) -> bool:
    """Whether an annotation is or contains a pydantic model, also inside of other models."""
    return "pydantic" in sys.modules and contains(annotation, _is_pydantic)


def _is_pydantic(part: Any) -> bool:
    if hasattr(part, "__pydantic_core_schema__") or hasattr(part, "__pydantic_validator__"):
        return True
    return type(part).__module__.partition(".")[0] in {"pydantic", "pydantic_core"}


def pydantic_decoder(annotation: Any) -> tuple[Callable[[str], Any], Kinds, Kinds]:
    """The function that decodes a text, the kinds that it takes, and those that are stored.

    Raises:
        Unreadable: pydantic cannot decode the annotation.
    """
    from inspect import signature

    from pydantic import TypeAdapter, ValidationError

    from cloaca._values.exact_decimals import ExactDecimals

    try:
        adapter: Any = TypeAdapter(annotation)
        decimals = ExactDecimals(adapter.core_schema)
    except Exception as error:
        raise Unreadable(str(error).partition("\n")[0]) from None
    # A model is stored by the names of its fields, which may have aliases. Older releases of
    # pydantic do not have the options.
    known = signature(adapter.validate_json).parameters
    options = {"by_alias": True, "by_name": True} if "by_name" in known else {}

    def run(text: str) -> Any:
        try:
            return adapter.validate_json(decimals.rewritten(text), **options)
        except ValidationError as error:
            raise _undecodable(error.errors(include_url=False, include_context=False)) from None

    return run, _kinds(annotation, stored=False), _kinds(annotation, stored=True)


def stored_kinds_of_field(model: Any, name: str) -> Kinds:
    """The kinds of JSON that a field of a pydantic model has when the model is stored."""
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


def _is_serializer(part: Any) -> bool:
    return type(part).__name__ in {"PlainSerializer", "WrapSerializer"}


def _undecodable(errors: list[Any]) -> Undecodable:
    """The error of the first part that does not match; the reason names up to three others."""
    first, *others = errors
    reason = first["msg"]
    for other in others[:3]:
        reason += f"; `{_path(other['loc'])}`: {other['msg']}"
    if len(others) > 3:
        reason += f"; and {len(others) - 3} more"
    return Undecodable(_path(first["loc"]), reason)


def _path(location: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _kinds(annotation: Any, *, stored: bool) -> Kinds:
    from typing import Annotated, Union, get_args, get_origin

    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        if not stored and any(type(part).__name__ in _EARLY_VALIDATORS for part in arguments[1:]):
            return None
        return _kinds(arguments[0], stored=stored)
    if origin is Union or type(annotation).__name__ == "UnionType":
        return joined(_kinds(part, stored=stored) for part in arguments)
    if annotation is type(None):
        return frozenset({NULL})
    kind = origin if isinstance(origin, type) else annotation
    if not isinstance(kind, type):
        return None
    if issubclass(kind, (list, tuple, set, frozenset)):
        return frozenset({ARRAY})
    if hasattr(kind, "__pydantic_decorators__"):
        return _kinds_of_model(kind, stored=stored)
    if issubclass(kind, dict) or hasattr(kind, "__dataclass_fields__"):
        return frozenset({OBJECT})
    return None


def _kinds_of_model(kind: Any, *, stored: bool) -> Kinds:
    """Objects, unless code of the model takes or returns something else."""
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
