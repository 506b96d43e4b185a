"""The declared input of a workflow: its fields, its JSON schema, and validation (semantics J5)."""

from __future__ import annotations

from cloaca._core import Context
from cloaca._values.annotations import class_hints
from cloaca._values.decoding import Decoder, Undecodable, Unreadable, is_plain
from cloaca._values.encoding import encode_as
from cloaca._values.exceptions import WorkflowInputError, WorkflowValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cloaca._values.kinds import Kinds


class InputModel:
    """The model of the input of a workflow.

    Attributes:
        fields: The key of the context for each field.
    """

    __slots__ = ("_annotations", "_decoder", "_schema", "fields", "workflow")

    def __init__(self, workflow: str, given: Any) -> None:
        """Read a model.

        Args:
            workflow: The workflow's name.
            given: A class of pydantic, msgspec, attrs or the standard library, or a mapping of
                names to types.

        Raises:
            WorkflowValidationError: It is none of these, or its types cannot be decoded from JSON.
        """
        self.workflow = workflow
        try:
            annotation = _of_names(workflow, given) if isinstance(given, dict) else given
            self.fields, self._annotations = _fields_of(annotation)
            self._decoder = Decoder(annotation)
            self._schema = _ordered(self._decoder.schema(), self.fields.values())
        except Unreadable as error:
            raise WorkflowValidationError(
                f"workflow '{workflow}': the model of input= cannot be used: {error}"
            ) from None
        except NameError as error:
            raise WorkflowValidationError(
                f"workflow '{workflow}': the model of input= cannot be used: {error}",
                hint="define the model at the level of a module",
            ) from None

    def schema(self) -> dict[str, Any]:
        """Its JSON schema."""
        return self._schema

    def kinds(self, field: str) -> Kinds:
        """The kinds of JSON that a field is stored as, or `None` if they are not known."""
        if hasattr(self._decoder.annotation, "model_fields"):
            from cloaca._values.pydantic_models import stored_kinds_of_field

            return stored_kinds_of_field(self._decoder.annotation, field)
        annotation = self._annotations[field]
        try:
            return None if is_plain(annotation) else Decoder(annotation).stored_kinds
        except Unreadable:
            return None

    def validate(self, given: object, what: str = "") -> Context:
        """The context of an execution, with defaults filled in.

        Args:
            given: An instance of the model, a mapping, a `Context`, or `None` for no values.
            what: The subject of messages; the input of the workflow if omitted.

        Raises:
            WorkflowInputError: It does not match the model.
            TypeError: It is none of these, or a part of it has no JSON form.
        """
        what = what or f"the input of workflow '{self.workflow}'"
        if isinstance(given, Context):
            text = given.to_json()
        elif given is None:
            text = "{}"
        elif isinstance(given, (list, tuple, set, frozenset, str, bytes, int, float)):
            kind = type(given).__name__
            raise TypeError(f"{what} must be its model, a mapping or a Context, not {kind}")
        else:
            text = encode_as(what, given)
        try:
            value = self._decoder.decode(text)
        except Undecodable as error:
            path = error.path.removeprefix(".")
            place = f"`{path}`: " if path else ""
            problem = WorkflowInputError(f"{what} is not valid: {place}{error.reason}")
            problem.path = path
            raise problem from error.__cause__
        return Context.from_json(encode_as(what, value))


def _ordered(schema: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A schema with its properties in the order of the declared fields."""
    properties = schema.get("properties", {})
    order = [key for key in keys if key in properties]
    order += [key for key in properties if key not in order]
    return {**schema, "properties": {key: properties[key] for key in order}}


def _of_names(workflow: str, given: dict[Any, Any]) -> Any:
    """A type whose values are objects with these names."""
    for name in given:
        if not isinstance(name, str) or not name:
            raise WorkflowValidationError(
                f"workflow '{workflow}': a name of input= must be a string, not {name!r}"
            )
    from typing import TypedDict

    typed_dict: Any = TypedDict
    model = typed_dict(f"{workflow} input", given)
    decoder = Decoder(model) if not _wants_pydantic(given) else None
    if decoder is not None and decoder.library == "msgspec":
        return model
    from pydantic import create_model

    fields: dict[str, Any] = {name: (kind, ...) for name, kind in given.items()}
    return create_model(f"{workflow} input", **fields)


def _wants_pydantic(given: dict[str, Any]) -> bool:
    return any(Decoder(kind).library == "pydantic" for kind in given.values() if kind is not object)


def _fields_of(model: Any) -> tuple[dict[str, str], dict[str, Any]]:
    """The keys and the annotations of a model's fields, by name."""
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
