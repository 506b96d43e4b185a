"""Any input either works or is refused with an error that names the cause.

With `CLOACINA_FUZZ=n`, which `make fuzz` sets, the tests try n times as many inputs.
`tests/fuzz_cases` contains inputs that once exposed a bug.
"""

from __future__ import annotations

import json
import os
import re
import string
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

import cloaca

TIMES = int(os.environ.get("CLOACINA_FUZZ", "1"))


def bounded(examples: int) -> settings:
    """Returns settings with this number of examples, times the factor from the environment."""
    return settings(
        max_examples=examples * TIMES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )


BOUNDED = bounded(200)


def known_inputs(name: str) -> list[tuple[str, str | None]]:
    """Returns inputs that once exposed a bug, from a file that the Rust tests also read.

    Each input comes with a part of its error message, or with `None` if the input is valid.
    """
    text = (Path(__file__).parent / "fuzz_cases" / f"{name}.json").read_text()
    return [(case["text"], case["refusal"]) for case in json.loads(text)]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@BOUNDED
@given(st.dictionaries(keys, json_values, max_size=5))
@example({"big": 2**200, "small": -(2**70), "zero\0byte": "\0"})
def test_b1_context_values_round_trip(data):
    context = cloaca.Context(data)
    assert context.to_dict() == data
    assert cloaca.Context.from_json(context.to_json()).to_dict() == data
    assert json.loads(context.to_json()) == data


def read_context(text: str) -> dict[str, Any] | None:
    try:
        return cloaca.Context.from_json(text).to_dict()
    except ValueError:
        return None


def refuse(constant: str) -> None:
    raise ValueError(constant)


def read_json(text: str) -> dict[str, Any] | None:
    """Returns the object that Python's own parser reads.

    Returns `None` if the parser refuses the text, or if the text is not a JSON object.
    """
    try:
        found = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


@BOUNDED
@given(st.text() | json_values.map(json.dumps) | st.text(alphabet='{}[]":,\\u0 1e.-'))
@example('{"a": 1, "a": 2}')
@example("[" * 100_000)
@example('{"a": ' * 5_000)
@example('{"a": 1e999}')
@example('{"a": NaN}')
def test_b1_json_is_parsed_as_in_python_or_refused(text):
    assert read_context(text) == read_json(text)


@pytest.mark.parametrize(
    ("text", "refusal"), known_inputs("contexts"), ids=range(len(known_inputs("contexts")))
)
def test_b1_known_context_text_is_parsed_or_refused(text, refusal):
    if refusal is None:
        assert isinstance(cloaca.Context.from_json(text).to_dict(), dict)
    else:
        with pytest.raises(ValueError, match=re.escape(refusal)):
            cloaca.Context.from_json(text)


@pytest.mark.parametrize(("text", "refusal"), known_inputs("crons"))
def test_f1_a_bad_cron_expression_is_refused_with_its_cause(text, refusal):
    with pytest.raises(cloaca.ScheduleError, match=re.escape(refusal)):
        cloaca.cron_preview(text, "UTC", 2, datetime(2026, 1, 1, tzinfo=UTC))


words = st.text(alphabet=string.ascii_letters + string.digits + "_-. :/\0é", max_size=12)


@BOUNDED
@given(
    name=words,
    tasks=st.lists(st.tuples(words, st.lists(words, max_size=3)), max_size=6),
    known=st.booleans(),
)
def test_a2_a_workflow_is_built_or_refused_with_its_cause(name, tasks, known):
    ids = [id for id, _ in tasks]
    try:
        builder = cloaca.WorkflowBuilder(name)
        with builder:
            for number, (id, dependencies) in enumerate(tasks):
                if known and ids:
                    dependencies = [ids[(number + len(d)) % len(ids)] for d in dependencies]
                cloaca.task(id=id, dependencies=dependencies)(lambda context: None)
    except cloaca.CloacaException as error:
        refusal = error
    else:
        refusal = None
    if refusal is not None:
        assert refusal.code
        assert str(refusal)
        return
    workflow = builder.build()
    assert len(workflow.topological_sort()) == len(tasks)


leaves = st.one_of(
    st.just(cloaca.always()),
    st.sampled_from(["a", "b", "nobody"]).map(cloaca.task_success),
    st.sampled_from(["a", "b"]).map(cloaca.task_failed),
    st.sampled_from(["a", "b"]).map(cloaca.task_skipped),
    st.builds(
        cloaca.context_value,
        st.sampled_from(["x", "y", "absent"]),
        st.sampled_from(["==", "!=", ">", ">=", "<", "<=", "contains", "exists", "not_exists"]),
        st.none() | st.integers(-2, 2) | st.text(max_size=2) | st.lists(st.integers(), max_size=2),
    ),
)
rules = st.recursive(
    leaves,
    lambda inner: st.lists(inner, min_size=1, max_size=3).flatmap(
        lambda parts: st.sampled_from([cloaca.all_of, cloaca.any_of, cloaca.none_of]).map(
            lambda join: join(*parts)
        )
    ),
    max_leaves=8,
)


@bounded(60)
@given(rule=rules, fails=st.booleans(), value=st.none() | st.integers(-2, 2) | st.text(max_size=2))
def test_c2_executions_end_for_any_tree_of_rules(cloaca_runner, rule, fails, value):
    try:
        with cloaca.WorkflowBuilder("ruled"):

            @cloaca.task(retry_attempts=1)
            def a(context):
                context["x"] = value
                if fails:
                    raise ValueError("on purpose")

            @cloaca.task(dependencies=[a])
            def b(context):
                context["y"] = [1, 2]

            @cloaca.task(dependencies=[a, b], trigger_rules=rule)
            def c(context):
                pass
    except cloaca.WorkflowError as error:
        refusal = str(error)
    else:
        refusal = None
    if refusal is not None:
        assert "nobody" in refusal
        return
    result = cloaca_runner.execute("ruled")
    assert result.tasks["c"].status in {"Completed", "Skipped", "Failed"}
    if result.tasks["c"].status == "Failed":
        assert "cannot be evaluated" in result.tasks["c"].error.message


@pytest.mark.parametrize(("text", "refusal"), known_inputs("urls"))
def test_an_invalid_url_is_refused(tmp_path, monkeypatch, text, refusal):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cloaca.CloacaException, match=re.escape(refusal)) as caught:
        cloaca.DefaultRunner(text)
    assert caught.value.code
