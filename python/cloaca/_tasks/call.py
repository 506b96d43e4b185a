"""Describes how a workflow calls a task's function, and where the result is stored (J1, J3)."""

from __future__ import annotations

from cloaca._tasks.parameters import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from cloaca._core import Context
    from cloaca._values.decoding import Decoder

    DefaultOfInput = Callable[[str, Context, str], str | None]

    class Resource(Protocol):
        """The marker of a resource."""

        factory: Callable[[], Any]


class Source:
    """The source of a parameter's value.

    Attributes:
        parameter: The parameter's name.
        kind: `task`, `input`, `context`, `item`, `signal` or `resource`.
        key: The key of the context that holds the value; empty for a resource.
        task: For kind `task`: the task whose result is the value.
        default: The value if the key is missing; `MISSING` if the parameter has no default.
        default_of_input: For kind `input`: a function that returns the default of a field of the
            declared input as JSON text, or `None`. It receives the key of the field, the context,
            and the id of the execution.
        decoder: The decoder of the value; `None` passes the value as it is.
        marker: For kind `resource`: the marker of the resource.
        items: For a parameter that takes the items of a map: the class that reads the items. The
            decoder then decodes the values of the items.
        items_or_none: Whether a parameter that takes the items of a map also accepts `None`.
        maker_stores: For kind `task`: how the task stores its result. `always`, `explicitly` (its
            function writes to the context), or `unless_none` (only if its function does not return
            `None`).
        maker_completed: Whether the task has certainly completed when the value is read.
    """

    __slots__ = (
        "decoder",
        "default",
        "default_of_input",
        "items",
        "items_or_none",
        "key",
        "kind",
        "maker_completed",
        "maker_stores",
        "marker",
        "parameter",
        "task",
    )

    def __init__(
        self,
        parameter: str,
        kind: str,
        *,
        key: str = "",
        task: str | None = None,
        default: object = MISSING,
        decoder: Decoder | None = None,
        marker: Resource | None = None,
    ) -> None:
        self.parameter = parameter
        self.kind = kind
        self.key = key
        self.task = task
        self.default = default
        self.default_of_input: DefaultOfInput | None = None
        self.decoder = decoder
        self.marker = marker
        self.items: Any = None
        self.items_or_none = False
        self.maker_stores = "explicitly"
        self.maker_completed = False

    @property
    def accepts_none(self) -> bool:
        """Whether `None` is a value of the parameter's type."""
        if self.items is not None:
            return self.items_or_none
        return self.decoder is None or self.decoder.accepts_null

    def to_definition(self) -> dict[str, Any]:
        """Return the parameter in the form that the engine stores."""
        data: dict[str, Any] = {"name": self.parameter, "from": self.kind}
        if self.key:
            data["key"] = self.key
        if self.task is not None:
            data["task"] = self.task
        if self.default is not MISSING:
            data["default"] = True
        if self.items is not None:
            data["items"] = True
        return data


class Call:
    """The arguments of a task's function, and the key of the function's result."""

    __slots__ = (
        "_keeps_none",
        "by_name",
        "encoder",
        "is_async",
        "is_plain",
        "named",
        "positional",
        "result_key",
        "sources",
        "unfilled",
        "wants_handle",
    )

    def __init__(
        self,
        positional: tuple[str | Source, ...],
        named: tuple[tuple[str, str | Source], ...],
        is_async: bool,
        result_key: str | None = None,
        *,
        keeps_none: bool = True,
        by_name: Mapping[str, str | Source] | None = None,
        unfilled: tuple[str, ...] = (),
        encoder: Decoder | None = None,
    ) -> None:
        #: For each positional argument: `"context"`, `"handle"` or the source of the value.
        self.positional = positional
        #: For each keyword argument: the parameter's name, with `"context"`, `"handle"` or the
        #: source of the value.
        self.named = named
        #: Whether the call returns a coroutine.
        self.is_async = is_async
        #: The key under which the result is stored; `None` if the function takes the context.
        self.result_key = result_key
        self._keeps_none = keeps_none
        #: Converts results to plain JSON values (`Decoder.plain` of the return annotation); `None`
        #: if they need no conversion.
        self.encoder = encoder
        #: For each parameter, by name: `"context"`, `"handle"` or the source of the value.
        self.by_name: Mapping[str, str | Source] = by_name or {}
        given = [*positional, *(what for _, what in named)]
        #: The sources of the values, in the order of the parameters.
        self.sources = tuple(what for what in given if isinstance(what, Source))
        #: Whether the handle is among the arguments.
        self.wants_handle = "handle" in given
        #: The parameters that keep their defaults, because the function takes the context and can
        #: read their keys from it.
        self.unfilled = unfilled
        #: Whether the function is called with the context alone, without any check of arguments.
        self.is_plain = positional == ("context",) and not named and not unfilled

    @property
    def keeps_none(self) -> bool:
        """Whether a value task stores the `None` that its function returned.

        The `None` is not stored if the function takes no values, and its return annotation is
        `None` or missing.
        """
        return self._keeps_none

    def parameters(self) -> list[dict[str, Any]]:
        """Return the parameters in the form that the engine stores."""
        found: list[dict[str, Any]] = []
        for name, what in self.by_name.items():
            if isinstance(what, Source):
                found.append(what.to_definition())
            elif what == "handle":
                found.append({"name": name, "from": "handle"})
        return found
