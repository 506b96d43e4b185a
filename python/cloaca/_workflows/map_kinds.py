"""Checks the JSON kinds of a map's lists, of their elements, and of its results (J6, K).

Unknown kinds are not checked.
"""

from __future__ import annotations

from cloaca._tasks.parameters import MISSING
from cloaca._values.exceptions import TaskValidationError
from cloaca._values.kinds import ARRAY, NULL, OBJECT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cloaca._tasks.call import Call, Source
    from cloaca._tasks.definition import TaskDefinition
    from cloaca._values.kinds import Kinds
    from cloaca._values.shapes import Shape
    from cloaca._workflows.input_model import InputModel

    Tasks = Mapping[str, TaskDefinition]
    Calls = Mapping[str, Call | None]

_HINT = "change one of the two annotations"
_ARTICLES = {ARRAY: "an ", NULL: "", OBJECT: "an "}


class MappedList:
    """The origin of the list of a mapped task.

    Attributes:
        task: The task whose result contains the list; `None` for a field of the input.
        field: The field of the declared input that contains the list; `None` for a task.
        path: The path of the list inside the result or the field, with a leading dot; may be empty.
    """

    __slots__ = ("field", "path", "task")

    def __init__(self, task: str | None, field: str | None, path: str) -> None:
        self.task = task
        self.field = field
        self.path = path

    @property
    def name(self) -> str:
        """The name of the list, as written in `over=`."""
        return f"{self.task or self.field}{self.path}"


def is_map(task: TaskDefinition) -> bool:
    """Returns whether a task runs once per element of a list."""
    return task.options.map is not None


def kinds_text(kinds: Iterable[str]) -> str:
    """Returns the kinds of JSON, with articles, for messages: `null or a number`."""
    return " or ".join(_ARTICLES.get(kind, "a ") + kind for kind in sorted(kinds))


def check_lists(
    task: TaskDefinition,
    call: Call | None,
    lists: Mapping[str, MappedList],
    tasks: Tasks,
    calls: Calls,
    input: InputModel | None,
) -> None:
    """Checks that a map runs over arrays, and that its parameters accept the elements.

    Args:
        task: The mapped task or node.
        call: The call of the task's function; `None` for a node.
        lists: The origin of the list of each parameter. Parameters that take their list from a
            context key are missing.
        tasks: The tasks of the workflow by id.
        calls: The calls of the tasks' functions by id.
        input: The declared input of the workflow.

    Raises:
        TaskValidationError: `over=` names a value that is not an array, or a parameter cannot
            accept an element.
    """
    items = [] if call is None else [source for source in call.sources if source.kind == "item"]
    parameters = {source.parameter: source for source in items}
    for name, origin in lists.items():
        maker = tasks[origin.task] if origin.task is not None else None
        if maker is not None and is_map(maker):
            if origin.path:
                raise TaskValidationError(
                    f"task '{task.id}' runs over '{origin.name}', but task '{maker.id}' is a map: "
                    f"its result is an array, which has no '{origin.path[1:]}'",
                    hint=f"run over '{maker.id}', and read the value from the element",
                )
            # The list is the result of another map, so its elements are the results of map items.
            elements = _stored_shape(maker)
            what = f"an item of map '{maker.id}' is "
            written = f" ({_annotation_text(maker, 'return')})" if maker.signature else ""
        else:
            found = _shape_of_list(origin, maker, calls, input)
            written = _origin_text(origin, maker, input)
            if found is None:
                elements = None
            elif found.kinds is not None and ARRAY not in found.kinds:
                raise TaskValidationError(
                    f"task '{task.id}' runs over '{origin.name}', which is "
                    f"{kinds_text(found.kinds)}, not an array: {written}",
                    hint="over= needs a list, such as list[int], or a task that returns a list",
                )
            else:
                elements = found.elements()
            what, written = f"an element of '{origin.name}' is ", f": {written}"
        source = parameters.get(name)
        if source is not None and source.decoder is not None:
            kinds = None if elements is None else elements.kinds
            _check_element(task, source, kinds, (what, written))


def _check_element(
    task: TaskDefinition, source: Source, made: Kinds, text: tuple[str, str]
) -> None:
    """Checks the annotation of the parameter that receives an element, or a batch of elements.

    Args:
        task: The mapped task.
        source: The source of the parameter.
        made: The kinds of the elements.
        text: The parts of the message before and after the kinds of the elements.
    """
    assert task.options.map is not None
    assert source.decoder is not None
    accepted, batch = source.decoder.kinds, task.options.map.batch
    own = _annotation_text(task, source.parameter)
    what = f"parameter '{source.parameter}' takes"
    if batch is not None:
        if accepted is not None and ARRAY not in accepted:
            raise TaskValidationError(
                f"task '{task.id}': {what} {kinds_text(accepted)} ({own}), but an item of a "
                f"map with batch={batch} is an array of up to {batch} elements",
                hint=f"annotate it as list[{own}], or leave out batch=",
            )
        elements = source.decoder.shape(stored=False).elements()
        accepted = None if elements is None else elements.kinds
        what = f"an element of parameter '{source.parameter}' is"
    if made is not None and accepted is not None and not made & accepted:
        raise TaskValidationError(
            f"task '{task.id}': {what} {kinds_text(accepted)} ({own}), but "
            f"{text[0]}{kinds_text(made)}{text[1]}",
            hint=_HINT,
        )


def check_reader(task: TaskDefinition, source: Source, maker: TaskDefinition) -> None:
    """Checks a parameter that receives the results of a map, or that is a `MapResult`.

    Args:
        task: The task with the parameter.
        source: The source of the parameter.
        maker: The task whose result the parameter receives.

    Raises:
        TaskValidationError: The parameter is a `MapResult`, but `maker` is not a map, or the
            parameter cannot accept the results of the map's items.
    """
    what = f"task '{task.id}': parameter '{source.parameter}'"
    if not is_map(maker):
        raise TaskValidationError(
            f"{what} is a MapResult, but task '{maker.id}' is not a map",
            hint="a map is a task with over=",
        )
    if source.decoder is None:
        return
    own = _annotation_text(task, source.parameter)
    accepted = source.decoder.kinds
    if source.items is None:
        if accepted is not None and ARRAY not in accepted:
            raise TaskValidationError(
                f"{what} takes {kinds_text(accepted)} ({own}), but task '{maker.id}' is a map, "
                "whose result is an array",
                hint=f"annotate it as list[{own}] or cloaca.MapResult[{own}]",
            )
        elements = source.decoder.shape(stored=False).elements()
        accepted = None if elements is None else elements.kinds
    results = _stored_shape(maker)
    made = None if results is None else results.kinds
    if made is not None and accepted is not None and not made & accepted:
        raise TaskValidationError(
            f"{what} requires each item to be {kinds_text(accepted)} ({own}), but an item of map "
            f"'{maker.id}' is {kinds_text(made)} ({_annotation_text(maker, 'return')})",
            hint=_HINT,
        )


def _shape_of_list(
    origin: MappedList, maker: TaskDefinition | None, calls: Calls, input: InputModel | None
) -> Shape | None:
    """Returns the shape of a list that does not come from a map; `None` if it is not known."""
    if maker is not None:
        call = calls.get(maker.id)
        found = None if call is None or call.result_key is None else _stored_shape(maker)
    elif input is not None and origin.field is not None:
        found = input.shape(origin.field)
    else:
        found = None
    for name in origin.path.split(".")[1:]:
        found = None if found is None else found.field(name)
    return found


def _stored_shape(task: TaskDefinition) -> Shape | None:
    """Returns the shape of the stored JSON of a task's return value; `None` if it is not known."""
    if task.signature is None:
        return None
    from cloaca._values.decoding import Unreadable

    try:
        decoder = task.signature.decoder("return")
    except Unreadable:
        return None
    return None if decoder is None else decoder.shape(stored=True)


def _origin_text(origin: MappedList, maker: TaskDefinition | None, input: InputModel | None) -> str:
    """Returns the origin of a list and its annotation, for messages."""
    if maker is not None:
        return f"the result of task '{maker.id}' is {_annotation_text(maker, 'return')}"
    assert input is not None
    assert origin.field is not None
    return f"the field '{origin.field}' of the input is {_text(input.annotation(origin.field))}"


def _annotation_text(task: TaskDefinition, name: str) -> str:
    # A node, such as a child or a wait, has no function.
    return _text(MISSING if task.signature is None else task.signature.annotation(name))


def _text(annotation: object) -> str:
    """Returns the text of an annotation, as a program would write it."""
    if annotation is MISSING:
        return "not annotated"
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, type):
        return annotation.__qualname__
    # Leaves out the names of private modules, because users know cloaca's classes without them.
    import re

    return re.sub(r"\bcloaca(?:\._\w+)(?:\.\w+)*\.(?=[A-Z])", "cloaca.", repr(annotation))
