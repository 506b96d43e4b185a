"""The functions that make trigger rules, and the definitions of these rules (A2, C2)."""

from __future__ import annotations

import pytest

import cloaca


def named(context):
    pass


def comparison(key, operator, value):
    data = cloaca.context_value(key, operator, value)._to_definition()
    assert isinstance(data, dict)
    return data["context_value"]


def test_c2_every_rule_name_is_accepted():
    for name in (
        "all_success",
        "all_failed",
        "all_done",
        "one_success",
        "one_failed",
        "none_failed",
        "always",
    ):
        assert cloaca.all_of(name)._to_definition() == {"all_of": {"conditions": [name]}}


def test_c2_conditions_can_be_nested_and_have_a_repr():
    cloaca.task(named)
    rule = cloaca.any_of(
        cloaca.all_of(cloaca.task_success("a"), cloaca.context_value("n", ">", 3)),
        cloaca.none_of(cloaca.task_failed(named), cloaca.task_skipped("c")),
        "one_failed",
    )
    first = [
        {"task_success": {"task": "a"}},
        {"context_value": {"key": "n", "operator": "greater_than", "value": 3}},
    ]
    second = [{"task_failed": {"task": "named"}}, {"task_skipped": {"task": "c"}}]
    assert rule._to_definition() == {
        "any_of": {
            "conditions": [
                {"all_of": {"conditions": first}},
                {"none_of": {"conditions": second}},
                "one_failed",
            ]
        }
    }
    assert repr(rule) == (
        "any_of(all_of(task_success('a'), context_value('n', '>', 3)), "
        "none_of(task_failed('named'), task_skipped('c')), 'one_failed')"
    )
    assert rule == cloaca.any_of(*PARTS)
    assert hash(rule) == hash(cloaca.any_of(*PARTS))
    assert rule != cloaca.all_of(*PARTS)


PARTS = (
    cloaca.all_of(cloaca.task_success("a"), cloaca.context_value("n", ">", 3)),
    cloaca.none_of(cloaca.task_failed("named"), cloaca.task_skipped("c")),
    "one_failed",
)


@pytest.mark.parametrize(
    ("spellings", "operator"),
    [
        (["==", "=", "eq", "Equals", "equal"], "equals"),
        (["!=", "<>", "ne", "NotEquals", "not_equals", "not equal"], "not_equals"),
        ([">", "gt", "GreaterThan", "greater_than"], "greater_than"),
        ([">=", "ge", "GreaterThanOrEqual", "greater_or_equal"], "greater_or_equal"),
        (["<", "lt", "LessThan"], "less_than"),
        (["<=", "lte", "LessThanOrEquals"], "less_or_equal"),
        (["contains", "Contains", "in"], "contains"),
        (["not_contains", "NotContains"], "not_contains"),
        (["exists", "Exists"], "exists"),
        (["not_exists", "NotExists"], "not_exists"),
    ],
)
def test_c2_operators_accept_the_documented_spellings(spellings, operator):
    for spelling in spellings:
        assert comparison("k", spelling, "v")["operator"] == operator, spelling


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: cloaca.context_value("k", "~", 1), cloaca.TaskValidationError, "'~'"),
        (lambda: cloaca.context_value("k", None, 1), cloaca.TaskValidationError, "None"),
        (lambda: cloaca.context_value(3, "==", 1), cloaca.TaskValidationError, "int"),
        (lambda: cloaca.context_value("k", "==", b""), TypeError, "'k'.*bytes"),
        (lambda: cloaca.context_value("k", "==", float("nan")), ValueError, "'k'.*NaN"),
        (lambda: cloaca.all_of(), cloaca.TaskValidationError, "at least one"),
        (lambda: cloaca.any_of("one_faild"), cloaca.TaskValidationError, "one_failed"),
        (lambda: cloaca.none_of(3), cloaca.TaskValidationError, "int"),
        (lambda: cloaca.task_success(3), cloaca.TaskValidationError, "int"),
        (lambda: cloaca.task_failed(print), cloaca.TaskValidationError, "not a task"),
    ],
)
def test_a2_a_bad_rule_is_refused_on_construction(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_c2_values_are_encoded_as_in_contexts():
    assert comparison("k", "==", (1, 2))["value"] == [1, 2]
    assert comparison("k", "==", 2**80)["value"] == 2**80


@pytest.mark.parametrize("depth", [33, 45, 900])
def test_a2_error_for_a_too_deeply_nested_rule_names_the_task(depth):
    rule = cloaca.always()
    for _ in range(depth):
        rule = cloaca.all_of(rule)
    with (
        pytest.raises(cloaca.TaskValidationError, match="'deep': trigger_rule is nested deeper"),
        cloaca.WorkflowBuilder("too_deep"),
    ):
        cloaca.task(id="deep", trigger_rule=rule)(lambda context: None)


def test_c2_equal_rules_have_equal_hashes():
    left = cloaca.context_value("a", "==", {"x": 1, "y": 2})
    right = cloaca.context_value("a", "==", {"y": 2, "x": 1})
    assert left == right
    assert hash(left) == hash(right)
