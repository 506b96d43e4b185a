"""The call of a task's function in a workflow, and the key of its result (J1, J3)."""

from __future__ import annotations

from cloaca._tasks.parameters import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Protocol

    from cloaca._values.decoding import Decoder

    class Resource(Protocol):
        """The marker of a resource."""

        factory: Callable[[], Any]


class Source:
    """The origin of the value of a parameter.

    Attributes:
        parameter: The parameter's name.
        kind: `task`, `input`, `context`, `item`, `signal` or `resource`.
        key: The key of the context that holds the value; empty for a resource.
        task: The task whose result the value is, for `task`.
        default: The value if the key is missing; `MISSING` if there is none.
        decoder: Decodes the value; `None` passes it as it is.
        marker: The resource, for `resource`.
        items: The class that reads the items of a map, for a parameter that takes them; `decoder`
            decodes the values of the items then.
        maker_stores: The way in which the task stores its result, for `task`: `always`;
            `explicitly`, in its context; or `unless_none`, if its function does not return `None`.
        maker_completed: Whether the task has certainly completed.
    """

    __slots__ = (
        "decoder",
        "default",
        "items",
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
        self.decoder = decoder
        self.marker = marker
        self.items: Any = None
        self.maker_stores = "explicitly"
        self.maker_completed = False

    @property
    def accepts_none(self) -> bool:
        """Whether `None` is a value of the parameter's type."""
        return self.decoder is None or self.decoder.accepts_null

    def to_definition(self) -> dict[str, Any]:
        """The parameter as the engine stores it."""
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
    """The arguments of a function, `positional` and `named`, and the key of its result."""

    __slots__ = (
        "_keeps_none",
        "by_name",
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
    ) -> None:
        #: `"context"`, `"handle"` or the source of a value for each positional argument.
        self.positional = positional
        #: The same for each keyword argument, with the name of its parameter.
        self.named = named
        #: Whether the call returns a coroutine.
        self.is_async = is_async
        #: The key under which the result is stored; `None` if the function takes the context.
        self.result_key = result_key
        self._keeps_none = keeps_none
        #: `"context"`, `"handle"` or the source, by the name of the parameter that receives it.
        self.by_name: Mapping[str, str | Source] = by_name or {}
        given = [*positional, *(what for _, what in named)]
        #: The sources of the values, in the order of the parameters.
        self.sources = tuple(what for what in given if isinstance(what, Source))
        #: Whether the handle is among the arguments.
        self.wants_handle = "handle" in given
        #: Parameters that keep their defaults, because the function reads keys from the context.
        self.unfilled = unfilled
        #: Whether the function is called with the context alone, without any check of arguments.
        self.is_plain = positional == ("context",) and not named and not unfilled

    @property
    def keeps_none(self) -> bool:
        """Whether a value task stores the `None` that its function returned.

        It does not if the function takes no values and its return annotation promises none.
        """
        return self._keeps_none

    def parameters(self) -> list[dict[str, Any]]:
        """The parameters as the engine stores them."""
        found: list[dict[str, Any]] = []
        for name, what in self.by_name.items():
            if isinstance(what, Source):
                found.append(what.to_definition())
            elif what == "handle":
                found.append({"name": name, "from": "handle"})
        return found
