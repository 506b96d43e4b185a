"""The declared input of a workflow: its fields, its JSON schema, and validation (semantics J5)."""

from __future__ import annotations

import threading
from json import dumps

from cloaca._core import Context
from cloaca._tasks.parameters import MISSING
from cloaca._values.decoding import Undecodable, Unreadable
from cloaca._values.exceptions import WorkflowInputError, WorkflowValidationError
from cloaca._workflows.input_fields import ClassFields, NamedFields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cloaca._values.kinds import Kinds
    from cloaca._values.shapes import Shape


# Maximum number of executions for which a model caches defaults.
_MAX_EXECUTIONS = 1000


class InputModel:
    """The model of the input of a workflow.

    Attributes:
        fields: The key in the context for each field.
    """

    __slots__ = (
        "_defaults",
        "_defaults_lock",
        "_fields",
        "_schema",
        "fields",
        "workflow",
    )

    def __init__(self, workflow: str, given: Any, *, of: tuple[str, str] | None = None) -> None:
        """Read a model.

        Args:
            workflow: The workflow's name.
            given: A class of pydantic, msgspec, attrs or the standard library, or a mapping of
                names to types.
            of: The object and the option that error messages name; the workflow and `input=` if
                omitted.

        Raises:
            WorkflowValidationError: `given` is not a model, or its types cannot be decoded from
                JSON.
        """
        self.workflow = workflow
        what, option = of or (f"workflow '{workflow}'", "input=")
        # The defaults of the fields that the input lacks, by execution.
        self._defaults: dict[str, dict[str, str]] = {}
        self._defaults_lock = threading.Lock()
        try:
            self._fields = (
                NamedFields(workflow, given, what, option)
                if isinstance(given, dict)
                else ClassFields(given)
            )
            self.fields = self._fields.keys
            self._schema = _ordered(self._fields.schema(), self.fields.values())
        except Unreadable as error:
            raise WorkflowValidationError(
                f"{what}: the model of {option} cannot be used: {error}",
                hint=error.hint,
            ) from None
        except NameError as error:
            raise WorkflowValidationError(
                f"{what}: the model of {option} cannot be used: {error}",
                hint="define the model at module level",
            ) from None

    def schema(self) -> dict[str, Any]:
        """Return the model's JSON schema."""
        return self._schema

    def kinds(self, field: str) -> Kinds:
        """Return the kinds of JSON that a field is stored as, or `None` if they are not known."""
        return self._fields.kinds(field)

    def shape(self, field: str) -> Shape | None:
        """Return the shape of the JSON that a field is stored as, or `None` if it is not known."""
        return self._fields.shape(field)

    def annotation(self, field: str) -> Any:
        """Return the type of a field."""
        return self._fields.annotation(field)

    def validate(self, given: object, what: str = "") -> Context:
        """Validate an input, and return the context of an execution with defaults filled in.

        Args:
            given: An instance of the model, a mapping, a `Context`, or `None` for no values.
            what: The subject of error messages; the input of the workflow if omitted.

        Raises:
            WorkflowInputError: The input does not match the model.
            TypeError: The input has another type, or a part of it has no JSON form.
        """
        what = what or f"the input of workflow '{self.workflow}'"
        if isinstance(given, Context):
            context = given
        elif given is None:
            context = Context()
        elif isinstance(given, (list, tuple, set, frozenset, str, bytes, int, float)):
            kind = type(given).__name__
            raise TypeError(
                f"{what} must be an instance of its model, a mapping or a Context, not {kind}"
            )
        else:
            context = Context.from_json(self._fields.encode(what, given))
        try:
            return Context.from_json(self._fields.validated(what, context))
        except Undecodable as error:
            problem = WorkflowInputError(f"{what} is not valid: {error.text()}")
            problem.path = error.path.removeprefix(".")
            raise problem from error.__cause__

    def default_of(self, key: str, context: Context, execution_id: str) -> str | None:
        """Return the default of a field that the input of an execution lacks, as JSON text.

        The stored input lacks defaults if another program submitted the execution, or if the
        execution is a child. If a function computes the default, this process calls it once per
        execution, so all tasks that this process runs receive the same value.

        Args:
            key: The key of the field.
            context: The context of the task, with the fields that the input has.
            execution_id: The id of the execution.

        Returns:
            The default; `None` if the field has no default.
        """
        with self._defaults_lock:
            found = self._defaults.get(execution_id)
            if found is None:
                found = self._defaults[execution_id] = self._missing_fields(context)
                if len(self._defaults) > _MAX_EXECUTIONS:
                    del self._defaults[next(iter(self._defaults))]
        return found.get(key)

    def _missing_fields(self, context: Context) -> dict[str, str]:
        """Return the defaults of the fields that a context lacks, as JSON texts."""
        keys = self.fields.values()
        given = {key: text for key in keys if (text := context._raw(key)) is not None}
        text = ",".join(f"{dumps(key)}:{value}" for key, value in given.items())
        try:
            valid = self.validate(Context.from_json(f"{{{text}}}"))
        except (WorkflowInputError, TypeError, ValueError):
            # A required field is missing, or a task has changed a field to a value that is not
            # valid. Only the defaults in the schema are then known.
            known = self._schema.get("properties", {})
            defaults = {key: known.get(key, {}).get("default", MISSING) for key in keys}
            return {
                key: dumps(value)
                for key, value in defaults.items()
                if key not in given and value is not MISSING
            }
        made = {key: valid._raw(key) for key in keys if key not in given}
        return {key: text for key, text in made.items() if text is not None}


def _ordered(schema: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Returns a schema with its properties in the order of the declared fields."""
    properties = schema.get("properties", {})
    order = [key for key in keys if key in properties]
    order += [key for key in properties if key not in order]
    return {**schema, "properties": {key: properties[key] for key in order}}
