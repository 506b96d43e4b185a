"""Decoders: from the JSON text of a value to what an annotation says (semantics J4, J6).

An annotation that contains a pydantic model is read by pydantic, any other by msgspec. Each library
is imported when the first such annotation is read.
"""

from __future__ import annotations

import sys

from cloaca._values.annotations import class_hints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

#: The kinds of JSON values.
ARRAY, BOOLEAN, NULL, NUMBER, OBJECT, STRING = (
    "array",
    "boolean",
    "null",
    "number",
    "object",
    "string",
)


class Undecodable(ValueError):
    """A value that does not match its annotation: the path inside the value, and the reason."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(path, reason)


class Unreadable(TypeError):
    """An annotation for which no decoder can be made; the text says why."""


class Decoder:
    """Decodes JSON text by an annotation. Made once for each annotation."""

    __slots__ = ("_run", "accepts_null", "annotation", "kinds", "library")

    def __init__(self, annotation: Any) -> None:
        """Make the decoder of an annotation.

        Raises:
            Unreadable: The library cannot decode it, or is not installed.
        """
        self.annotation = annotation
        self.library = "pydantic" if _has_pydantic(annotation, set()) else "msgspec"
        make = _pydantic if self.library == "pydantic" else _msgspec
        self._run: Callable[[str], Any]
        #: The kinds of JSON that it takes; `None` if they are not known.
        self.kinds: frozenset[str] | None
        self._run, self.kinds = make(annotation)
        #: Whether it takes null.
        self.accepts_null = self._takes("null")

    def decode(self, text: str) -> Any:
        """The value of a JSON text.

        Raises:
            Undecodable: It does not match the annotation.
        """
        return self._run(text)

    def _takes(self, text: str) -> bool:
        try:
            self._run(text)
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


def kinds_of(annotation: object) -> frozenset[str] | None:
    """The kinds of JSON that a value of this annotation has when it is stored.

    `None` if they are not known. Only what cannot match is of interest, so doubts are `None`.
    """
    if is_plain(annotation):
        return None
    try:
        return Decoder(annotation).kinds
    except Unreadable:
        return None


# --- msgspec -------------------------------------------------------------------------------------


def _msgspec(annotation: Any) -> tuple[Callable[[str], Any], frozenset[str] | None]:
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
            # A class of a function, whose annotations are text that names other classes of it.
            _evaluate_classes(annotation, set())
            info = msgspec.inspect.type_info(annotation)
        parts = list(_parts(info))
        # A duration is stored as a number of seconds, which msgspec takes only if it is not strict.
        strict = not any(isinstance(part, msgspec.inspect.TimeDeltaType) for part in parts)
        decoder: Any = msgspec.json.Decoder(annotation, strict=strict, dec_hook=_any)
    except Exception as error:
        raise Unreadable(str(error)) from None
    for part in parts:
        if isinstance(part, msgspec.inspect.CustomType) and part.cls is not object:
            raise Unreadable(f"msgspec cannot decode {_shown(part.cls)} from JSON")
        if isinstance(part, (msgspec.inspect.BytesType, msgspec.inspect.ByteArrayType)):
            raise Unreadable("bytes are not JSON")

    def run(text: str) -> Any:
        try:
            return decoder.decode(text)
        except msgspec.ValidationError as error:
            reason, _, path = str(error).rpartition(" - at `$")
            if not reason:
                reason, path = str(error), "`"
            raise Undecodable(path[:-1], reason) from None
        except RecursionError:
            raise Undecodable("", "it is nested too deeply") from None

    return run, _kinds(info)


def _evaluate_classes(annotation: Any, seen: set[int]) -> None:
    """Replaces annotations of models that are written as text by their values."""
    from typing import get_args, get_origin

    if id(annotation) in seen:
        return
    seen.add(id(annotation))
    parts = list(get_args(annotation))
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and kind.__module__ != "builtins":
        own = vars(kind).get("__annotations__", {})
        hints = _hints(kind)
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


def _kinds(info: Any) -> frozenset[str] | None:
    import msgspec

    kinds = msgspec.inspect
    if isinstance(info, kinds.Metadata):
        return _kinds(info.type)
    if isinstance(info, kinds.UnionType):
        return _joined([_kinds(part) for part in info.types])
    if isinstance(info, (kinds.EnumType, kinds.LiteralType)):
        values = info.values if isinstance(info, kinds.LiteralType) else list(info.cls)
        return frozenset(_kind_of_value(getattr(value, "value", value)) for value in values)
    if isinstance(info, kinds.StructType):
        return frozenset({ARRAY if info.array_like else OBJECT})
    table: list[tuple[tuple[Any, ...], tuple[str, ...]]] = [
        ((kinds.NoneType,), (NULL,)),
        ((kinds.BoolType,), (BOOLEAN,)),
        ((kinds.IntType, kinds.FloatType), (NUMBER,)),
        ((kinds.StrType, kinds.DateTimeType, kinds.DateType, kinds.TimeType), (STRING,)),
        ((kinds.UUIDType,), (STRING,)),
        ((kinds.DecimalType, kinds.TimeDeltaType), (NUMBER, STRING)),
        (
            (
                kinds.ListType,
                kinds.SetType,
                kinds.FrozenSetType,
                kinds.VarTupleType,
                kinds.TupleType,
                kinds.NamedTupleType,
            ),
            (ARRAY,),
        ),
        ((kinds.DictType, kinds.TypedDictType, kinds.DataclassType), (OBJECT,)),
    ]
    for classes, found in table:
        if isinstance(info, classes):
            return frozenset(found)
    return None


def _joined(parts: list[frozenset[str] | None]) -> frozenset[str] | None:
    known = [part for part in parts if part is not None]
    return frozenset().union(*known) if len(known) == len(parts) else None


def _kind_of_value(value: object) -> str:
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, (int, float)):
        return NUMBER
    return STRING if isinstance(value, str) else OBJECT


# --- pydantic ------------------------------------------------------------------------------------


def _pydantic(annotation: Any) -> tuple[Callable[[str], Any], frozenset[str] | None]:
    from pydantic import TypeAdapter, ValidationError

    try:
        adapter: Any = TypeAdapter(annotation)
    except Exception as error:
        raise Unreadable(str(error).partition("\n")[0]) from None
    # A model is stored by the names of its fields, which may have aliases.
    options: dict[str, Any] = {"by_alias": True, "by_name": True}
    try:
        adapter.validate_json("null", **options)
    except TypeError:
        options = {}
    except ValueError:
        pass

    def run(text: str) -> Any:
        try:
            return adapter.validate_json(text, **options)
        except ValidationError as error:
            raise _undecodable(error.errors(include_url=False, include_context=False)) from None

    return run, _pydantic_kinds(annotation)


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


def _pydantic_kinds(annotation: Any) -> frozenset[str] | None:
    from typing import Annotated, Union, get_args, get_origin

    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _pydantic_kinds(arguments[0])
    if origin is Union or type(annotation).__name__ == "UnionType":
        return _joined([_pydantic_kinds(part) for part in arguments])
    if annotation is type(None):
        return frozenset({NULL})
    kind = origin if isinstance(origin, type) else annotation
    if not isinstance(kind, type):
        return None
    if issubclass(kind, (list, tuple, set, frozenset)):
        return frozenset({ARRAY})
    if issubclass(kind, dict) or _is_dataclass(kind):
        return frozenset({OBJECT})
    if hasattr(kind, "model_fields") and not hasattr(kind, "__pydantic_root_model__"):
        return frozenset({OBJECT})
    if getattr(kind, "__pydantic_root_model__", None) is False:
        return frozenset({OBJECT})
    return None


def _has_pydantic(annotation: Any, seen: set[int]) -> bool:
    """Whether an annotation is or contains a pydantic model, also inside of other models."""
    if "pydantic" not in sys.modules or id(annotation) in seen:
        return False
    seen.add(id(annotation))
    from typing import get_args, get_origin

    if hasattr(annotation, "__pydantic_core_schema__") or hasattr(
        annotation, "__pydantic_validator__"
    ):
        return True
    if any(_has_pydantic(part, seen) for part in get_args(annotation)):
        return True
    if type(annotation).__module__.partition(".")[0] in {"pydantic", "pydantic_core"}:
        return True
    kind = get_origin(annotation) or annotation
    if type(kind).__name__ == "TypeAliasType":
        return _has_pydantic(kind.__value__, seen)
    if isinstance(kind, type) and (_is_dataclass(kind) or hasattr(kind, "__annotations__")):
        if kind.__module__ == "builtins":
            return False
        return any(_has_pydantic(part, seen) for part in _hints(kind).values())
    return False


def _is_dataclass(kind: type) -> bool:
    return hasattr(kind, "__dataclass_fields__")


def _hints(kind: type) -> dict[str, Any]:
    try:
        return class_hints(kind)
    except Exception:
        return {}  # the library that decodes the class says what is wrong with it


def _shown(kind: object) -> str:
    return kind.__qualname__ if isinstance(kind, type) else repr(kind)
