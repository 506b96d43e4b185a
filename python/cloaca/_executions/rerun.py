"""Converts the arguments of `rerun` into the engine's request."""

from __future__ import annotations

from cloaca._core import RerunRequest
from cloaca._executions.handle import id_of
from cloaca._executions.submission import checked_labels
from cloaca._values.arguments import check_optional_strings
from cloaca._values.exceptions import ConfigurationError
from cloaca._values.inputs import context_of
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloaca._core import Reads
    from cloaca._executions.handle import WorkflowHandle
    from cloaca._values.inputs import Input

_VERSIONS = ("original", "latest")


def rerun_request(
    reads: Reads,
    execution: str | WorkflowHandle,
    input: Input | None,
    version: str,
    labels: Mapping[str, str] | None,
    note: str | None,
) -> RerunRequest:
    """Checks the arguments of `rerun` and returns the request.

    A new input is validated as for `submit`.

    Raises:
        ConfigurationError: An argument is not valid.
        WorkflowInputError: The input does not match the workflow's model.
        TypeError: The input is not a mapping, or a value in it is not JSON.
        ValueError: A value in the input is NaN or an infinity.
        WorkflowNotFoundError: No execution has this id.
    """
    id = id_of(execution)
    if version not in _VERSIONS:
        raise ConfigurationError(
            f"version must be 'original' or 'latest', not {version!r}",
            hint="pass 'original' to run the version of the earlier execution",
        )
    check_optional_strings(note=note)
    context = None
    if input is not None:
        known = registry.workflow(reads.execution(id).workflow_name)
        model = None if known is None else known._input
        context = context_of(input) if model is None else model.validate(input)
    chosen = None if labels is None else checked_labels(labels)
    return RerunRequest(id, context, version == "latest", chosen, None, note)
