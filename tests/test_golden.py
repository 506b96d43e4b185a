"""The Python package reproduces the golden vectors of `tests/golden`, like the Rust crate."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import cloaca
from cloaca import _core
from cloaca._values.encoding import encode_as

GOLDEN = Path(__file__).parent / "golden"


def vectors(name: str) -> Any:
    """Returns the vectors of a file."""
    return json.loads((GOLDEN / name).read_text())


@pytest.fixture(scope="module")
def runner() -> Iterator[cloaca.DefaultRunner]:
    """One runner for all vectors, because the expected results do not depend on the database."""
    with cloaca.DefaultRunner(":memory:") as running:
        yield running


@pytest.mark.parametrize("vector", vectors("contexts.json"), ids=lambda vector: vector["text"])
def test_b1_contexts_have_the_golden_text_or_are_refused(vector):
    if vector["kept"] is None:
        with pytest.raises(ValueError, match=r".+"):
            cloaca.Context.from_json(vector["text"])
    else:
        assert cloaca.Context.from_json(vector["text"]).to_json() == vector["kept"]


def test_deltas_turn_one_context_into_another(runner):
    for vector in vectors("deltas.json"):
        with cloaca.WorkflowBuilder("golden_deltas"):

            @cloaca.task
            def change(context, after=vector["after"]):
                return cloaca.Context(after)

        result = runner.execute("golden_deltas", vector["before"])
        assert result.final_context == vector["after"], vector


def test_b3_merges_are_deterministic(runner):
    for vector in vectors("merges.json"):
        with cloaca.WorkflowBuilder("golden_merges"):
            for index, value in enumerate(vector["values"]):

                @cloaca.task(id=f"write{index}")
                def write(context, value=value):
                    context["key"] = json.loads(value)

        given = vector.get("input")
        source = cloaca.Context.from_json("{}" if given is None else f'{{"key":{given}}}')
        result = runner.execute("golden_merges", source)
        assert result.final_context.to_json() == f'{{"key":{vector["merged"]}}}', vector


def rule_of(stored: Any) -> Any:
    """Converts a rule from its stored form to the form that Python users write."""
    if isinstance(stored, str):
        # Uses both forms that Python accepts: a function for `always`, a string for other rules.
        return cloaca.always() if stored == "always" else stored
    ((kind, value),) = stored.items()
    match kind:
        case "all_of" | "any_of" | "none_of":
            return getattr(cloaca, kind)(*(rule_of(part) for part in value["conditions"]))
        case "context_value":
            return cloaca.context_value(value["key"], value["operator"], value["value"])
        case _:
            return getattr(cloaca, kind)(value["task"])


def test_c2_rules_give_the_golden_results(runner):
    golden = vectors("rules.json")
    judged = 0
    for vector in golden["rules"]:
        with cloaca.WorkflowBuilder("golden_rules"):

            @cloaca.task
            def good(context):
                pass

            @cloaca.task(retry_attempts=1)
            def bad(context):
                raise RuntimeError("as expected")

            @cloaca.task(trigger_rule=cloaca.context_value("absent", "exists", None))
            def left(context):
                pass

            @cloaca.task(
                id="judged",
                dependencies=[good, bad, left],
                trigger_rule=rule_of(vector["rule"]),
                retry_attempts=1,
            )
            def target(context):
                pass

        result = runner.execute("golden_rules", golden["context"])
        ends = {id: task.status for id, task in result.tasks.items()}
        assert ends == {**golden["dependencies"], "judged": vector["end"]}, vector
        judged += 1
    assert judged > 50


def policy_of(stored: dict[str, Any]) -> cloaca.RetryPolicy:
    """Converts a policy from its stored form to the form that Python users write."""
    match stored["backoff"]:
        case {"strategy": "fixed"}:
            backoff = cloaca.BackoffStrategy.fixed()
        case {"strategy": "linear", "multiplier": multiplier}:
            backoff = cloaca.BackoffStrategy.linear(multiplier)
        case {"base": base, "multiplier": multiplier}:
            backoff = cloaca.BackoffStrategy.exponential(base, multiplier)
    return (
        cloaca.RetryPolicy.builder()
        .max_attempts(stored["max_attempts"])
        .backoff_strategy(backoff)
        .initial_delay(stored["initial_delay"] / 1_000_000)
        .max_delay(stored["max_delay"] / 1_000_000)
        .with_jitter(stored["jitter"])
        .build()
    )


def test_d1_policy_computes_the_golden_delays():
    for vector in vectors("delays.json"):
        policy = policy_of(vector["policy"])
        delay = policy.calculate_delay(vector["attempt"])
        assert delay == pytest.approx(vector["delay_us"] / 1_000_000), vector


@pytest.mark.parametrize(
    "vector",
    vectors("ticks.json"),
    ids=lambda vector: f"{vector['expression']} {vector['timezone']}",
)
def test_f_ticks_fall_on_the_golden_instants(vector):
    after = datetime.fromisoformat(vector["after"])
    expression, zone = vector["expression"], vector["timezone"]
    times = cloaca.cron_preview(expression, zone, len(vector["times"]), after)
    assert [time.isoformat() for time in times] == vector["times"]


def test_a4_versions_never_change():
    for vector in vectors("versions.json"):
        text = encode_as("a golden definition", vector["definition"])
        assert _core.Workflow.build(text).version == vector["version"], vector
