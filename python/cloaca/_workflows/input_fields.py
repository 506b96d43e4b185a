"""The fields of a declared input, from a class or from a mapping of names to types (J5)."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps

from cloaca._values.annotations import class_hints
from cloaca._values.decoding import Decoder, Undecodable, Unreadable, is_plain
from cloaca._values.encoding import encode_as, plain
from cloaca._values.exceptions import WorkflowValidationError
from cloaca._values.json_numbers import with_original_numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._core import Context
    from cloaca._values.kinds import Kinds
    from cloaca._values.shapes import Shape

# The prefix of references to definitions in a JSON schema.
_REFERENCE = "#/$defs/"


class ClassFields:
    """The fields of a class, which are decoded together by the class's library.

    Attributes:
        keys: The key in the context for each field.
    """

    __slots__ = ("_aliases", "_annotations", "_decoder", "keys")

    def __init__(self, model: Any) -> None:
        """Read the fields of a class.

        Raises:
            Unreadable: The class is not a model, or its types cannot be decoded from JSON.
            NameError: A name in its annotations is not defined.
        """
        self.keys, self._annotations = _fields_of(model)
        self._decoder = Decoder(model)
        fields: dict[str, Any] = getattr(model, "model_fields", {})
        aliases = {name: field.validation_alias for name, field in fields.items()}
        self._aliases = {name: text for name, text in aliases.items() if isinstance(text, str)}

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of the class."""
        return self._decoder.schema()

    def kinds(self, field: str) -> Kinds:
        """Return the kinds of JSON that a field is stored as, or `None` if they are not known."""
        if hasattr(self._decoder.annotation, "model_fields"):
            from cloaca._values.pydantic_models import stored_kinds_of_field

            return stored_kinds_of_field(self._decoder.annotation, field)
        annotation = self._annotations[field]
        try:
            return None if is_plain(annotation) else Decoder(annotation).stored_kinds
        except Unreadable:
            return None

    def shape(self, field: str) -> Shape | None:
        """Return the shape of the JSON that a field is stored as, or `None` if it is not known."""
        if hasattr(self._decoder.annotation, "model_fields"):
            from cloaca._values.pydantic_models import shape_of_field

            return shape_of_field(self._decoder.annotation, field)
        annotation = self._annotations[field]
        try:
            return None if is_plain(annotation) else Decoder(annotation).shape(stored=True)
        except Unreadable:
            return None

    def annotation(self, field: str) -> Any:
        """Return the type of a field."""
        return self._annotations[field]

    def encode(self, what: str, given: object) -> str:
        """Return the JSON text of an input that was not validated."""
        return encode_as(what, given, self._decoder.plain_input)

    def validated(self, what: str, given: Context) -> str:
        """Validate an input, and return its JSON text with defaults filled in.

        Raises:
            Undecodable: The input does not match the class.
            TypeError: A part of the decoded input has no JSON form.
        """
        text = given.to_json()
        valid = self._decoder.encode(what, self._decoder.decode(text))
        return with_original_numbers(valid, text, self._aliases)


class NamedFields:
    """The fields of a mapping of names to types, each decoded by the library of its type.

    Attributes:
        keys: The key in the context for each field.
    """

    __slots__ = ("_decoders", "_model", "_required", "keys")

    def __init__(self, workflow: str, given: Mapping[Any, Any], what: str, option: str) -> None:
        """Read the fields of a mapping.

        Raises:
            WorkflowValidationError: A name is not a string, or is empty.
            Unreadable: The type of a field cannot be decoded from JSON.
            NameError: A name in an annotation is not defined.
        """
        for name in given:
            if not isinstance(name, str) or not name:
                raise WorkflowValidationError(
                    f"{what}: a name of {option} must be a non-empty string, not {name!r}"
                )
        from typing import TypedDict

        typed_dict: Any = TypedDict
        self._model = typed_dict(f"{workflow} input", dict(given))
        annotations = {name: _unwrapped(kind) for name, kind in class_hints(self._model).items()}
        self.keys = {name: name for name in annotations}
        self._required: frozenset[str] = self._model.__required_keys__
        # The decoder of each field; `None` for a field that accepts every JSON value.
        self._decoders: dict[str, Decoder | None] = {}
        for name, annotation in annotations.items():
            try:
                self._decoders[name] = None if is_plain(annotation) else Decoder(annotation)
            except Unreadable as error:
                raise Unreadable(f"field '{name}': {error}", hint=error.hint) from None

    def schema(self) -> dict[str, Any]:
        """Return a JSON schema with the schemas of the fields.

        Types that several fields contain are defined once, under `$defs`.
        """
        properties: dict[str, Any] = {}
        definitions: dict[str, Any] = {}
        for name, decoder in self._decoders.items():
            if decoder is None:
                properties[name] = {"description": "any JSON value"}
            else:
                properties[name] = _with_definitions(*decoder.field_schema(), definitions)
        found = {
            "title": self._model.__name__,
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name in self._required],
        }
        return {**found, "$defs": definitions} if definitions else found

    def kinds(self, field: str) -> Kinds:
        """Return the kinds of JSON that a field is stored as, or `None` if they are not known."""
        decoder = self._decoders[field]
        return None if decoder is None else decoder.stored_kinds

    def shape(self, field: str) -> Shape | None:
        """Return the shape of the JSON that a field is stored as, or `None` if it is not known."""
        decoder = self._decoders[field]
        return None if decoder is None else decoder.shape(stored=True)

    def annotation(self, field: str) -> Any:
        """Return the type of a field."""
        decoder = self._decoders[field]
        return object if decoder is None else decoder.annotation

    def encode(self, what: str, given: object) -> str:
        """Return the JSON text of an input that was not validated."""
        return encode_as(what, given, self._plain)

    def _plain(self, given: object) -> object:
        if not isinstance(given, Mapping):
            return plain(given)
        converters = {
            name: decoder.plain_input
            for name, decoder in self._decoders.items()
            if decoder is not None and decoder.converts
        }
        return plain(
            {
                name: converters[name](value) if name in converters else value
                for name, value in given.items()
            }
        )

    def validated(self, what: str, given: Context) -> str:
        """Validate an input, and return its JSON text.

        Raises:
            Undecodable: The input does not match the types of the fields.
            TypeError: A part of the decoded input has no JSON form.
        """
        parts: list[str] = []
        problems: list[Undecodable] = []
        for name, decoder in self._decoders.items():
            text = given._raw(name)
            if text is None:
                if name in self._required:
                    problems.append(Undecodable("", f"Object missing required field `{name}`"))
                continue
            if decoder is not None:
                try:
                    valid = decoder.encode(f"{what}: field '{name}'", decoder.decode(text))
                except Undecodable as error:
                    problem = error.under(f".{name}")
                    problem.__cause__ = error.__cause__
                    problems.append(problem)
                    continue
                text = with_original_numbers(valid, text)
            parts.append(f"{dumps(name, ensure_ascii=False)}:{text}")
        if problems:
            raise problems[0]
        return f"{{{','.join(parts)}}}"


def _with_definitions(
    schema: dict[str, Any], own: dict[str, Any], definitions: dict[str, Any]
) -> dict[str, Any]:
    """Adds a field's definitions to the definitions of all fields, and returns the field's schema.

    A definition is renamed if `definitions` already contains a different one of the same name.
    """
    names: dict[str, str] = {}
    for name, definition in own.items():
        free, number = name, 2
        while definitions.get(free, definition) != definition:
            free, number = f"{name}{number}", number + 1
        names[name] = free
    definitions.update({names[name]: _renamed(part, names) for name, part in own.items()})
    renamed: dict[str, Any] = _renamed(schema, names)
    return renamed


def _renamed(schema: Any, names: dict[str, str]) -> Any:
    """Returns a part of a schema, with its references changed to the new names of definitions."""
    if isinstance(schema, dict):
        return {key: _renamed(part, names) for key, part in schema.items()}
    if isinstance(schema, list):
        return [_renamed(part, names) for part in schema]
    if isinstance(schema, str) and schema.startswith(_REFERENCE):
        name = schema.removeprefix(_REFERENCE)
        return _REFERENCE + names.get(name, name)
    return schema


def _unwrapped(annotation: Any) -> Any:
    """Returns the type of a field of a `TypedDict`, without qualifiers such as `NotRequired`."""
    from typing import get_args, get_origin

    while getattr(get_origin(annotation), "_name", "") in {"NotRequired", "ReadOnly", "Required"}:
        (annotation,) = get_args(annotation)
    return annotation


def _fields_of(model: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """Returns the keys and the annotations of a model's fields, by name."""
    from typing import get_origin

    kind = get_origin(model) or model
    if not isinstance(kind, type):
        raise Unreadable(f"it must be a class or a dict of names and types, not {model!r}")
    if hasattr(kind, "model_fields"):
        found = {name: field.annotation for name, field in kind.model_fields.items()}
        return {name: name for name in found}, found
    hints = class_hints(kind)
    if hasattr(kind, "__struct_fields__"):
        encoded: Any = zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True)  # type: ignore[attr-defined]
        keys = dict(encoded)
    elif hasattr(kind, "__dataclass_fields__"):
        keys = {name: name for name in kind.__dataclass_fields__ if name in hints}
    elif hasattr(kind, "__attrs_attrs__"):
        keys = {field.name: field.name for field in kind.__attrs_attrs__}
    elif hasattr(kind, "__total__") and issubclass(kind, dict):
        keys = {name: name for name in hints}
    else:
        raise Unreadable(
            f"{kind.__qualname__} has no fields; it must be a pydantic model, a msgspec.Struct, a "
            "dataclass, an attrs class, a TypedDict, or a dict of names and types"
        )
    return keys, {name: hints.get(name, object) for name in keys}
