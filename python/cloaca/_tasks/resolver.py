"""Decides which value each parameter of a task's function receives (semantics J1, J2).

The functions are pure: they read a signature and the names of a workflow, and return a `Call` or
raise an error.
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

    from cloaca._tasks.call import DefaultOfInput
    from cloaca._tasks.map_options import MapOptions
    from cloaca._tasks.parameters import Parameter, Signature
    from cloaca._values.decoding import Decoder

# The names of parameters that receive the handle, and of parameters for the context.
HANDLE_NAMES = frozenset({"handle", "task_handle"})
CONTEXT_NAMES = frozenset({"context", "ctx"})

# Frequent return annotations whose values need neither a decoder nor a conversion to be stored.
_PLAIN_RESULTS = (MISSING, None, "None", bool, dict, float, int, list, str)

_HINT = (
    "a task takes the context, and a parameter named 'handle' or 'task_handle'; "
    "give every other parameter a default"
)
_METHOD_HINT = (
    "@cloaca.task is on a method without an object; decorate a function, or a method "
    "of an object: cloaca.task(pipeline.load)"
)


def marked_alone(parameter: str, marker: ResultMarker) -> tuple[str, str]:
    """Returns the id and the result's key of the task that a marker refers to.

    The task is looked up by its function, without a workflow.
    """
    tasks = tasks_of(marker.reference)
    id = task_id(f"cloaca.result of parameter '{parameter}'", marker.reference)
    return id, tasks[-1].result_key if tasks else id


class Scope:
    """The names to which the parameters of one task of a workflow can refer.

    Attributes:
        task: The task's id.
        result_key: The key of the task's result.
        find: A function that returns the id of the task with the given name, or `None`.
        keys: The keys of the results of all tasks, by id.
        fields: The keys of the declared input by field; `None` if the workflow declares no input.
        default_of_input: The function that returns the default of a field of the declared input;
            see `Source`.
        signals: The names of the signals that the task waits for.
        error: For final tasks: the decoder of the ended execution's error, for the parameter
            `error`. `None` for ordinary tasks.
        map: For a mapped task: the options of the map.
        marked: A function that returns the id and the key of the task that a parameter's default
            refers to.
    """

    __slots__ = (
        "default_of_input",
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
        default_of_input: DefaultOfInput | None = None,
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
        self.default_of_input = default_of_input
        self.signals = signals
        self.map = map
        self.marked = marked

    def suggest(self, name: str) -> str | None:
        """Return a hint with the most similar known name, except the task's own name."""
        others = [id for id in self.keys if id != self.task]
        return suggestion(name, [*others, *(self.fields or ())])


def resolve(signature: Signature, scope: Scope) -> Call:
    """Decides which value each parameter of a function receives.

    Raises:
        TaskValidationError: A parameter has no source in the workflow, or no decoder can be made
            for its annotation. The message names the task and the parameter.
    """
    found: dict[str, str | Source] = {}
    for name in items_of(signature, scope):
        found[name] = Source(name, "item", key=name, decoder=_decoder(signature, scope, name))
    items = tuple(found)
    has_context = _assign(signature, scope, found)
    _refuse_replaced(scope, found, items)
    if has_context and scope.map is not None:
        raise TaskValidationError(
            f"task '{scope.task}': {name_of(signature.function)} takes the context, which an item "
            "of a map cannot write",
            hint="take the values as parameters; the return value is the item's result",
        )
    positional: list[str | Source] = []
    named: list[tuple[str, str | Source]] = []
    unfilled: list[str] = []
    # Whether a positional parameter keeps its default. Later arguments are then passed by name.
    skipped = False
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
                "position, after a parameter for which a task receives no value",
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
        encoder=_encoder(signature, scope),
    )


def _refuse_replaced(
    scope: Scope, found: Mapping[str, str | Source], items: tuple[str, ...]
) -> None:
    """Refuses the result of a task if a signal or an element of a map has the same key.

    Raises:
        TaskValidationError: The task would read the signal's data or the element instead.
    """
    for name, what in found.items():
        if isinstance(what, str) or what.kind != "task":
            continue
        for keys, other in ((scope.signals, "the signal"), (items, "the element")):
            if what.key in keys:
                raise TaskValidationError(
                    f"task '{scope.task}': parameter '{name}' is the result '{what.key}' of task "
                    f"'{what.task}', but {other} '{what.key}' of the task would replace it",
                    hint=f"give {other} another name, or rename the result with output=",
                )


def items_of(signature: Signature, scope: Scope) -> list[str]:
    """Returns the parameters that receive the elements of a mapped task's lists.

    Raises:
        TaskValidationError: No parameter can receive the element, or several can.
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
    # In a group, a parameter can have the name that the group gives to the task.
    maker = scope.find(own)
    same = [name for name in names if maker not in {None, scope.task} and scope.find(name) == maker]
    if len(same) == 1:
        return same
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
            hint="add a parameter for the element, with a name that is neither a task nor a field "
            "of the input",
        )
    found = "', '".join(parameter.name for parameter in free)
    raise TaskValidationError(
        f"{what} has several parameters that could receive the element of '{own}': '{found}'",
        hint=f'name one of them: over={{"{free[0].name}": "{own}"}}',
    )


def refuse_loose(signature: Signature, task_id: str) -> None:
    """Refuses a function that no workflow can call.

    The decorator calls this function, so that the error points to the definition of the task. If a
    function takes the context, its other parameters without defaults need annotations. Such a
    parameter without an annotation is usually a mistake.

    Raises:
        TaskValidationError: The function has a parameter for which a task receives no value.
    """
    scope = Scope(task_id, task_id)
    found: dict[str, str | Source] = {}
    later = _later_context(signature, scope, found)
    has_context = _assign(signature, scope, found)
    first = signature.parameters[0].name if signature.parameters else ""
    if later is not None and signature.annotation(later) is not MISSING:
        # The first parameter can have the name of a task or of a field of the input. This is known
        # only when the workflow is built.
        values = [one for one in signature.parameters if found.get(one.name) != "handle"]
        if values[0].kind != KEYWORD_ONLY:
            found.setdefault(values[0].name, "context")
    for parameter in signature.parameters:
        if parameter.name in found or parameter.default is not MISSING:
            continue
        if parameter.kind in {VAR_POSITIONAL, VAR_KEYWORD}:
            continue
        is_bare = signature.annotation(parameter.name) is MISSING
        if first == "self" or (has_context and is_bare):
            raise _unknown(signature, scope, parameter.name, has_context=has_context)


def _assign(signature: Signature, scope: Scope, found: dict[str, str | Source]) -> bool:
    """Finds the sources of parameters, except keys of the context, and stores them in `found`.

    The sources are the handle, the context, markers, signals, results of tasks and fields of the
    input; for final tasks also the error of the ended execution.

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
        elif is_bare and _later_context(signature, scope, found) is None:
            found[name], has_context = "context", True
    return has_context


def _later_context(
    signature: Signature, scope: Scope, found: Mapping[str, str | Source]
) -> str | None:
    """Returns the parameter after the first that needs the context as its value, if there is one.

    If there is such a parameter, the first parameter is not the context.
    """
    for parameter in signature.parameters[1:]:
        name = parameter.name
        if name in found or parameter.default is not MISSING or not parameter.is_single:
            continue
        if signature.is_annotated(name, "Context"):
            return name
        is_bare = name in CONTEXT_NAMES and signature.annotation(name) is MISSING
        if is_bare and _known(signature, scope, parameter, without_own=False) is None:
            return name
    return None


def _is_key(signature: Signature, scope: Scope, parameter: Parameter, *, has_context: bool) -> bool:
    """Returns whether a parameter without another source is a key of the context.

    No parameter is a key if the workflow declares its input. If the function takes the context, it
    can read keys itself. A parameter is then a key only if it has an annotation and no default,
    because a parameter without an annotation is usually a mistake.
    """
    if scope.fields is not None or not has_context:
        return scope.fields is None
    return parameter.default is MISSING and signature.annotation(parameter.name) is not MISSING


def _is_annotated(signature: Signature, name: str, class_name: str) -> bool:
    return name not in CONTEXT_NAMES and signature.is_annotated(name, class_name)


def _known(
    signature: Signature, scope: Scope, parameter: Parameter, *, without_own: bool
) -> Source | None:
    """Returns the source of a parameter that has a marker or a known name.

    The known names are those of signals, tasks and fields of the input, and `error` in a final
    task. Returns `None` for other parameters. With `without_own`, the name of the task to which the
    parameter belongs does not count.
    """
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
        source = _source(signature, scope, parameter, "input", scope.fields[name])
        source.default_of_input = scope.default_of_input
        return source
    return None


def _source(
    signature: Signature,
    scope: Scope,
    parameter: Parameter,
    kind: str,
    key: str,
    task: str | None = None,
) -> Source:
    given = parameter.default
    default = MISSING if isinstance(given, ResultMarker) else given
    items = _items(signature, scope, parameter.name) if kind == "task" else None
    source = Source(
        parameter.name,
        kind,
        key=key,
        task=task,
        default=default,
        decoder=_decoder(signature, scope, parameter.name) if items is None else items[1],
    )
    if items is not None:
        source.items, _, source.items_or_none = items
    return source


def _items(
    signature: Signature, scope: Scope, name: str
) -> tuple[Any, Decoder | None, bool] | None:
    """Returns how a parameter receives the items of a map; see `Signature.map_result`."""
    from cloaca._values.decoding import Unreadable

    try:
        return signature.map_result(name)
    except Unreadable as error:
        raise TaskValidationError(
            f"task '{scope.task}': the annotation of parameter '{name}' of "
            f"{name_of(signature.function)} cannot be used: {error}",
            hint=error.hint,
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
            f"{name_of(signature.function)} cannot be used: {error}",
            hint=error.hint,
        ) from None


def _encoder(signature: Signature, scope: Scope) -> Decoder | None:
    """Returns the decoder that converts the results of a function to JSON.

    Returns `None` if the results need no conversion.

    Raises:
        TaskValidationError: Results of the annotated type cannot be decoded.
    """
    written = signature.annotation("return")
    if written in _PLAIN_RESULTS or signature.is_annotated("return", "Context"):
        return None
    from cloaca._values.decoding_errors import UnknownName, Unreadable

    try:
        decoder = signature.decoder("return")
    except UnknownName:
        # If only type checkers import a name of the annotation, the result is plain JSON (J4).
        return None
    except Unreadable as error:
        raise TaskValidationError(
            f"task '{scope.task}': the return annotation of {name_of(signature.function)} cannot "
            f"be used: {error}",
            hint=error.hint or "annotate the type of the stored value, or object for plain JSON",
        ) from None
    return decoder if decoder is not None and decoder.converts else None


def _promises_value(signature: Signature) -> bool:
    """Returns whether the function has a return annotation other than `None`."""
    return signature.annotation("return") not in (MISSING, None, "None")


def _unknown(
    signature: Signature, scope: Scope, name: str, *, has_context: bool
) -> TaskValidationError:
    problem = f"task '{scope.task}': {name_of(signature.function)} needs a parameter '{name}'"
    if signature.parameters[0].name == "self":
        return TaskValidationError(
            f"{problem}, for which a task receives no value", hint=_METHOD_HINT
        )
    near = scope.suggest(name)
    fields = f"the input has: {', '.join(scope.fields)}; " if scope.fields else ""
    if has_context:
        advice = f"read it from the context: context[{name!r}]; {_HINT}"
        if fields:
            advice = f"{fields}the context has what other tasks write: context[{name!r}]"
        return TaskValidationError(
            f"{problem}, for which a task receives no value", hint=near or advice
        )
    places = "neither a task of the workflow nor a field of its input"
    return TaskValidationError(
        f"{problem}, which is {places}",
        hint=near or f"{fields}declare it in input=, name a task, or give it a default",
    )
