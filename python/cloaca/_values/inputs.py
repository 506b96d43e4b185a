"""The types of an input that submissions, schedules and triggers accept."""

from __future__ import annotations

from cloaca._core import Context
from cloaca._values.encoding import encode_as, is_model

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, Protocol, TypeAlias

    class DataclassModel(Protocol):
        """An instance of a dataclass."""

        __dataclass_fields__: ClassVar[dict[str, Any]]

    class PydanticModel(Protocol):
        """An instance of a pydantic model."""

        def model_dump_json(self) -> str: ...

    class StructModel(Protocol):
        """An instance of a msgspec.Struct."""

        @property
        def __struct_fields__(self) -> tuple[str, ...]: ...

    class AttrsModel(Protocol):
        """An instance of an attrs class."""

        __attrs_attrs__: ClassVar[Any]

    #: An instance of a model class.
    Model: TypeAlias = DataclassModel | PydanticModel | StructModel | AttrsModel
    #: The input of an execution.
    Input: TypeAlias = Context | Mapping[str, Any] | Model


def context_of(given: Any) -> Context | None:
    """Converts an input to a context; returns `None` for `None`.

    Args:
        given: A mapping, a `Context`, an instance of a model, or `None`.

    Raises:
        TypeError: The input has another type, or a value in it is not JSON.
        ValueError: A value in the input is NaN or an infinity.
    """
    if type(given) is dict:
        return Context(given)  # the most frequent case, checked first because the others are slow
    if given is None or isinstance(given, Context):
        return given
    if isinstance(given, (list, tuple, set, frozenset, str, bytes)):
        kind = type(given).__name__
        raise TypeError(
            f"the context must be a mapping or a Context, not {kind}; "
            "name the value, such as {'rows': [1, 2]}"
        )
    if is_model(given):
        return Context.from_json(encode_as("the input", given))
    return Context(given)
