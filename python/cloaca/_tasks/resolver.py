"""Decides what each parameter of a task's function receives in a workflow (semantics J1, J2).

Pure: it reads a signature and the names of a workflow, and returns a `Call` or raises.
"""

from __future__ import annotations

from cloaca._tasks.call import Call, Source
from cloaca._tasks.markers import ResourceMarker, ResultMarker
from cloaca._tasks.parameters import (
    KEYWORD_ONLY,
    MISSING,
    POSITIONAL,
    POSITIONAL_ONLY,
    VAR_KEYWORD,
    VAR_POSITIONAL,
    name_of,
)
from cloaca._tasks.references import task_id, tasks_of
from cloaca._values.exceptions import TaskValidationError
from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from cloaca._tasks.map_options import MapOptions
    from cloaca._tasks.parameters import Parameter, Signature
    from cloaca._values.decoding import Decoder

HANDLE_NAMES = frozenset({"handle", "task_handle"})
CONTEXT_NAMES = frozenset({"context", "ctx"})

_HINT = (
    "a task takes the context, and a parameter named 'handle' or 'task_handle'; "
    "give others a default"
)
_METHOD_HINT = (
    "@cloaca.task is on a method without an object; decorate a function, or a method "
    "of an object: cloaca.task(pipeline.load)"
)


def marked_alone(parameter: str, marker: ResultMarker) -> tuple[str, str]:
    """The id and the result's key of the task to which a marker refers, without a workflow."""
    tasks = tasks_of(marker.reference)
    id = task_id(f"cloaca.result of parameter '{parameter}'", marker.reference)
    return id, tasks[-1].result_key if tasks else id


class Scope:
    """The names to which the parameters of one task of a workflow can refer.

    Attributes:
        task: The task's id.
        result_key: The key of its own result.
        find: Returns the id of the task that a name stands for, or `None`.
        keys: The keys of the results of all tasks, by id.
        fields: The keys of the declared input by field; `None` if the workflow declares none.
        signals: The names of the signals that the task waits for.
        error: Decodes the error of the ended execution, for the parameter `error` of final tasks;
            `None` in ordinary tasks.
        map: The options of a mapped task.
        marked: Returns the id and the key of the task that a parameter's default refers to.
    """

    __slots__ = (
        "error",
        "fields",
        "find",
        "keys",
        "map",
        "marked",
        "result_key",
        "signals",
        "task",
    )

    def __init__(
        self,
        task: str,
        result_key: str,
        *,
        find: Callable[[str], str | None] = lambda name: None,
        keys: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
        signals: tuple[str, ...] = (),
        map: MapOptions | None = None,
        marked: Callable[[str, ResultMarker], tuple[str, str]] = marked_alone,
        error: Any = None,
    ) -> None:
        self.error = error
        self.task = task
        self.result_key = result_key
        self.find = find
        self.keys = keys or {}
        self.fields = fields
        self.signals = signals
        self.map = map
        self.marked = marked

    def suggest(self, name: str) -> str | None:
        """A hint that names the nearest known name, except that of the task itself."""
        others = [id for id in self.keys if id != self.task]
        return suggestion(name, [*others, *(self.fields or ())])


def resolve(signature: Signature, scope: Scope) -> Call:
    """Decides what each parameter of a function receives.

    Raises:
        TaskValidationError: A parameter has no meaning in the workflow, or its annotation cannot be
            decoded. The message names the task and the parameter.
    """
    found: dict[str, str | Source] = {}
    for name in items_of(signature, scope):
        found[name] = Source(name, "item", key=name, decoder=_decoder(signature, scope, name))
    has_context = _assign(signature, scope, found)
    if has_context and scope.map is not None:
        raise TaskValidationError(
            f"task '{scope.task}': {name_of(signature.function)} takes the context, which an item "
            "of a map cannot write",
            hint="take the values as parameters; what it returns is the item's result",
        )
    positional: list[str | Source] = []
    named: list[tuple[str, str | Source]] = []
    unfilled: list[str] = []
    skipped = False  # once a positional parameter keeps its default, later ones are passed by name
    for parameter in signature.parameters:
        name, kind = parameter.name, parameter.kind
        what = found.get(name)
        if what is None and kind in {VAR_POSITIONAL, VAR_KEYWORD}:
            continue
        if what is None and _is_key(signature, scope, parameter, has_context=has_context):
            what = found[name] = _source(signature, scope, parameter, "context", name)
        if what is None and parameter.default is not MISSING:
            unfilled.append(name)
            skipped = skipped or kind in {POSITIONAL_ONLY, POSITIONAL}
            continue
        if what is None:
            raise _unknown(signature, scope, name, has_context=has_context)
        if kind == KEYWORD_ONLY or (skipped and kind == POSITIONAL):
            named.append((name, what))
        elif skipped:
            raise TaskValidationError(
                f"task '{scope.task}': {name_of(signature.function)} takes '{name}' only by "
                "position, behind a parameter that a task does not get",
                hint=_HINT,
            )
        else:
            positional.append(what)
    if has_context:
        return Call(
            tuple(positional),
            tuple(named),
            signature.is_async,
            by_name=found,
            unfilled=tuple(unfilled),
        )
    has_values = any(isinstance(what, Source) for what in [*positional, *dict(named).values()])
    return Call(
        tuple(positional),
        tuple(named),
        signature.is_async,
        scope.result_key,
        keeps_none=has_values or _promises_value(signature),
        by_name=found,
    )


def items_of(signature: Signature, scope: Scope) -> list[str]:
    """The parameters that receive the elements of a mapped task's lists.

    Raises:
        TaskValidationError: No parameter, or more than one, can be the element.
    """
    if scope.map is None:
        return []
    over = scope.map.over
    names = {parameter.name for parameter in signature.parameters if parameter.is_single}
    what = f"task '{scope.task}': {name_of(signature.function)}"
    if isinstance(over, dict):
        for name in over:
            if name not in names:
                raise TaskValidationError(
                    f"{what} has no parameter '{name}', which over= names",
                    hint=suggestion(name, sorted(names)),
                )
        return list(over)
    own = over if isinstance(over, str) else task_id(f"over of task '{scope.task}'", over)
    if own in names:
        return [own]
    free = [
        parameter
        for parameter in signature.parameters
        if parameter.is_single
        and parameter.name not in HANDLE_NAMES | CONTEXT_NAMES
        and not signature.is_annotated(parameter.name, "TaskHandle")
        and not signature.is_annotated(parameter.name, "Context")
        and _known(signature, scope, parameter, without_own=True) is None
    ]
    free = [parameter for parameter in free if parameter.default is MISSING] or free
    if len(free) == 1:
        return [free[0].name]
    if not free:
        raise TaskValidationError(
            f"{what} has no parameter for the element of '{own}'",
            hint="the parameter that names neither a task nor a field of the input receives it",
        )
    found = "', '".join(parameter.name for parameter in free)
    raise TaskValidationError(
        f"{what} has several parameters that could be the element of '{own}': '{found}'",
        hint=f'say which: over={{"{free[0].name}": "{own}"}}',
    )


def refuse_loose(signature: Signature, task_id: str) -> None:
    """Refuses a function that no workflow can call, at the line that defines it.

    A function that takes the context needs an annotation for each further parameter without a
    default: without an annotation, such a parameter is far more often a mistake than a value.

    Raises:
        TaskValidationError: The function has a parameter for which a task gets no value.
    """
    scope = Scope(task_id, task_id)
    found: dict[str, str | Source] = {}
    has_context = _assign(signature, scope, found)
    first = signature.parameters[0].name if signature.parameters else ""
    for parameter in signature.parameters:
        if parameter.name in found or parameter.default is not MISSING:
            continue
        if parameter.kind in {VAR_POSITIONAL, VAR_KEYWORD}:
            continue
        is_bare = signature.annotation(parameter.name) is MISSING
        if first == "self" or (has_context and is_bare):
            raise _unknown(signature, scope, parameter.name, has_context=has_context)


def _assign(signature: Signature, scope: Scope, found: dict[str, str | Source]) -> bool:
    """Assigns the handle, the context, markers, results of tasks and fields of the input.

    Returns:
        Whether the function takes the context.
    """
    has_context = False
    is_first = True
    for parameter in signature.parameters:
        name, kind = parameter.name, parameter.kind
        if name in found:
            is_first = False
            continue
        if kind == VAR_KEYWORD or (kind == VAR_POSITIONAL and not is_first):
            continue
        if kind != VAR_POSITIONAL and (
            name in HANDLE_NAMES or _is_annotated(signature, name, "TaskHandle")
        ):
            found[name] = "handle"
            continue
        could_be_context = is_first and kind != KEYWORD_ONLY
        is_first = False
        if kind == VAR_POSITIONAL:
            found[name], has_context = "context", True
            continue
        if not has_context and (
            (name in CONTEXT_NAMES and (could_be_context or parameter.default is MISSING))
            or (name == "context" and kind == KEYWORD_ONLY)
            or _is_annotated(signature, name, "Context")
        ):
            found[name], has_context = "context", True
            continue
        is_bare = could_be_context and signature.annotation(name) is MISSING
        what = _known(signature, scope, parameter, without_own=is_bare)
        if what is not None:
            found[name] = what
        elif is_bare:
            found[name], has_context = "context", True
    return has_context


def _is_key(signature: Signature, scope: Scope, parameter: Parameter, *, has_context: bool) -> bool:
    """Whether a parameter without another meaning is a key of the context.

    A function that takes the context reads keys from it. There, a parameter with a default keeps
    it, and one without an annotation is far more often a mistake than a key.
    """
    if scope.fields is not None or not has_context:
        return scope.fields is None
    return parameter.default is MISSING and signature.annotation(parameter.name) is not MISSING


def _is_annotated(signature: Signature, name: str, class_name: str) -> bool:
    return name not in CONTEXT_NAMES and signature.is_annotated(name, class_name)


def _known(
    signature: Signature, scope: Scope, parameter: Parameter, *, without_own: bool
) -> Source | None:
    """The source of a parameter that is a marker, or named like a task or a field of the input."""
    name, default = parameter.name, parameter.default
    if isinstance(default, ResourceMarker):
        return Source(name, "resource", marker=default)
    if isinstance(default, ResultMarker):
        task, key = scope.marked(name, default)
        return _source(signature, scope, parameter, "task", key, task)
    if scope.error is not None and name == "error":
        return Source(name, "context", key=name, default=default, decoder=scope.error)
    if name in scope.signals:
        decoder = _decoder(signature, scope, name)
        return Source(name, "signal", key=name, default=default, decoder=decoder)
    found = scope.find(name)
    if found is not None and not (without_own and found == scope.task):
        return _source(signature, scope, parameter, "task", scope.keys[found], found)
    if scope.fields is not None and name in scope.fields:
        return _source(signature, scope, parameter, "input", scope.fields[name])
    return None


def _source(
    signature: Signature,
    scope: Scope,
    parameter: Parameter,
    kind: str,
    key: str,
    task: str | None = None,
) -> Source:
    default = parameter.default
    if kind == "task":
        items = _items(signature, scope, parameter.name)
        if items is not None:
            source = Source(parameter.name, kind, key=key, task=task, decoder=items[1])
            source.items = items[0]
            return source
    return Source(
        parameter.name,
        kind,
        key=key,
        task=task,
        default=MISSING if isinstance(default, ResultMarker) else default,
        decoder=_decoder(signature, scope, parameter.name),
    )


def _items(signature: Signature, scope: Scope, name: str) -> tuple[Any, Decoder | None] | None:
    """The class and the decoder of a parameter that takes the items of a map."""
    from cloaca._values.decoding import Unreadable

    try:
        return signature.map_result(name)
    except Unreadable as error:
        raise TaskValidationError(
            f"task '{scope.task}': the annotation of parameter '{name}' of "
            f"{name_of(signature.function)} cannot be used: {error}"
        ) from None


def _decoder(signature: Signature, scope: Scope, name: str) -> Decoder | None:
    if signature.annotation(name) is MISSING:
        return None
    from cloaca._values.decoding import Unreadable

    try:
        return signature.decoder(name)
    except Unreadable as error:
        raise TaskValidationError(
            f"task '{scope.task}': the annotation of parameter '{name}' of "
            f"{name_of(signature.function)} cannot be used: {error}"
        ) from None


def _promises_value(signature: Signature) -> bool:
    """Whether the function has a return annotation other than `None`."""
    return signature.annotation("return") not in (MISSING, None, "None")


def _unknown(
    signature: Signature, scope: Scope, name: str, *, has_context: bool
) -> TaskValidationError:
    problem = f"task '{scope.task}': {name_of(signature.function)} needs a parameter '{name}'"
    if signature.parameters[0].name == "self":
        return TaskValidationError(f"{problem} that a task does not get", hint=_METHOD_HINT)
    near = scope.suggest(name)
    if has_context:
        hint = near or f"read it from the context: context[{name!r}]; {_HINT}"
        return TaskValidationError(f"{problem} that a task does not get", hint=hint)
    places = "neither a task of the workflow nor a field of its input"
    return TaskValidationError(
        f"{problem}, which is {places}",
        hint=near or "declare it in input=, name a task, or give it a default",
    )
