"""`cloaca.RetryPolicy`: its defaults, delays, decisions and checks (semantics D1, D2)."""

from __future__ import annotations

import datetime

import pytest

import cloaca


def test_d1_default_policy_has_the_documented_values():
    policy = cloaca.RetryPolicy.default()
    assert policy == cloaca.RetryPolicy.builder().build()
    assert (policy.max_attempts, policy.initial_delay, policy.max_delay) == (3, 1.0, 60.0)
    assert policy.with_jitter
    assert policy.backoff == cloaca.BackoffStrategy.exponential(2, 1)
    assert policy.condition == cloaca.RetryCondition.all_errors()


def build(strategy, **values):
    builder = cloaca.RetryPolicy.builder().backoff_strategy(strategy).with_jitter(False)
    for name, value in values.items():
        getattr(builder, name)(value)
    return builder.build()


FIXED = cloaca.BackoffStrategy.fixed()


@pytest.mark.parametrize(
    ("strategy", "attempt", "seconds"),
    [
        (FIXED, 1, 1),
        (FIXED, 9, 1),
        (cloaca.BackoffStrategy.linear(), 3, 3),
        (cloaca.BackoffStrategy.linear(2), 3, 6),
        (cloaca.BackoffStrategy.exponential(), 1, 1),
        (cloaca.BackoffStrategy.exponential(), 5, 16),
        (cloaca.BackoffStrategy.exponential(), 7, 60),
        (cloaca.BackoffStrategy.exponential(), 4000, 60),
        (cloaca.BackoffStrategy.exponential(3, 2), 3, 18),
        (cloaca.BackoffStrategy.exponential(10**10, 0), 4000, 0),
    ],
)
def test_d1_delays_follow_the_strategy_up_to_the_maximum(strategy, attempt, seconds):
    assert build(strategy).calculate_delay(attempt) == seconds


def test_d1_maximum_applies_after_a_jitter_of_at_most_a_quarter():
    policy = cloaca.RetryPolicy(backoff=FIXED, initial_delay=10, max_delay=11)
    delays = {policy.calculate_delay(1) for _ in range(500)}
    assert 7.5 <= min(delays) < 8.5
    assert max(delays) == 11


@pytest.mark.parametrize(
    ("condition", "error", "is_retried"),
    [
        (cloaca.RetryCondition.all_errors(), ValueError("x"), True),
        (cloaca.RetryCondition.never(), ValueError("x"), False),
        (cloaca.RetryCondition.transient_only(), ConnectionResetError(), True),
        (cloaca.RetryCondition.transient_only(), TimeoutError, True),
        (cloaca.RetryCondition.transient_only(), cloaca.TaskTimeoutError(), True),
        (cloaca.RetryCondition.transient_only(), "Service Unavailable", True),
        (cloaca.RetryCondition.transient_only(), ValueError("x"), False),
        (cloaca.RetryCondition.error_pattern(["Rate Limit"]), ValueError("rate limit hit"), True),
        (cloaca.RetryCondition.error_pattern(["keyerror"]), KeyError("x"), True),
        (cloaca.RetryCondition.error_pattern(["other"]), ValueError("x"), False),
    ],
)
def test_d1_condition_decides_whether_to_retry(condition, error, is_retried):
    policy = cloaca.RetryPolicy.builder().retry_condition(condition).build()
    assert policy.should_retry(1, error) is is_retried
    assert policy.should_retry(3, error) is False


@pytest.mark.parametrize(
    "error",
    [
        cloaca.Abort("x"),
        cloaca.Abort,
        cloaca.TaskInputError("no value"),
        cloaca.TaskInputError,
        cloaca.WorkflowError("it waits for itself", code="deadlock"),
    ],
)
def test_d2_no_attempt_follows_an_error_that_ends_the_task(error):
    assert cloaca.RetryPolicy().should_retry(1, error) is False
    assert cloaca.RetryPolicy(retry_on=[Exception]).should_retry(1, error) is False


def test_d1_error_types_include_their_subclasses():
    only = cloaca.RetryPolicy(retry_on=[OSError], never_on=[FileNotFoundError])
    assert only.should_retry(1, ConnectionError())
    assert not only.should_retry(1, FileNotFoundError())
    assert not only.should_retry(1, ValueError())
    assert only.retry_on == ("OSError",)
    own = cloaca.RetryPolicy(retry_on=[cloaca.TaskTimeoutError, "shop.PaymentError"])
    assert own.retry_on == ("TaskTimeoutError", "shop.PaymentError")


@pytest.mark.parametrize("attempts", [0, 1])
def test_d1_max_attempts_of_zero_or_one_means_one_attempt(attempts):
    policy = cloaca.RetryPolicy.builder().max_attempts(attempts).build()
    assert policy.max_attempts == 1
    assert not policy.should_retry(1, ValueError())


@pytest.mark.parametrize(
    "values",
    [
        {"max_attempts": -1},
        {"max_attempts": 1.5},
        {"max_attempts": True},
        {"max_attempts": 10**7},
        {"initial_delay": -0.1},
        {"initial_delay": float("nan")},
        {"max_delay": float("inf")},
        {"max_delay": "1"},
        {"backoff": "fixed"},
        {"condition": "all"},
        {"retry_on": [int]},
        {"never_on": [""]},
        {"retry_on": 3},
        {"never_on": None},
        {"with_jitter": "no"},
    ],
)
def test_d1_invalid_arguments_of_the_constructor_are_refused(values):
    with pytest.raises(cloaca.TaskValidationError) as caught:
        cloaca.RetryPolicy(**values)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "make",
    [
        lambda: cloaca.BackoffStrategy.linear(-1),
        lambda: cloaca.BackoffStrategy.exponential(float("nan")),
        lambda: cloaca.BackoffStrategy.exponential(2, "1"),
        lambda: cloaca.RetryCondition.error_pattern([]),
        lambda: cloaca.RetryCondition.error_pattern([""]),
        lambda: cloaca.RetryCondition.error_pattern([1]),
        lambda: cloaca.RetryCondition.error_pattern(None),
        lambda: cloaca.RetryPolicy.builder().with_jitter("no").build(),
        lambda: cloaca.RetryPolicy().calculate_delay("x"),
        lambda: cloaca.RetryPolicy().should_retry("x"),
        lambda: cloaca.RetryPolicy().should_retry(1, 3),
    ],
)
def test_d1_invalid_arguments_of_methods_are_refused(make):
    with pytest.raises(cloaca.TaskValidationError):
        make()


def test_policies_are_immutable_and_compare_by_value():
    one = cloaca.RetryPolicy(initial_delay=datetime.timedelta(milliseconds=500))
    two = cloaca.RetryPolicy(initial_delay=0.5)
    assert one == two
    assert hash(one) == hash(two)
    assert one != cloaca.RetryPolicy()
    assert "initial_delay=0.5" in repr(one)
    assert repr(cloaca.BackoffStrategy.linear(3)) == "BackoffStrategy.linear(multiplier=3)"
    assert repr(cloaca.RetryCondition.error_pattern("a")) == "RetryCondition.error_pattern(['a'])"
    with pytest.raises(AttributeError):
        one.max_attempts = 5  # type: ignore[misc]


@pytest.mark.parametrize(("random_value", "seconds"), [(0.0, 0.75), (0.5, 1.0), (1.0, 1.25)])
def test_d1_jitter_changes_a_delay_by_at_most_a_quarter(monkeypatch, random_value, seconds):
    monkeypatch.setattr("random.random", lambda: random_value)
    policy = cloaca.RetryPolicy(backoff=FIXED, initial_delay=1)
    assert policy.calculate_delay(1) == seconds


def test_d1_delays_are_rounded_to_microseconds_as_in_the_engine():
    policy = build(cloaca.BackoffStrategy.linear(1.5), initial_delay=0.000_001)
    assert [policy.calculate_delay(attempt) for attempt in (1, 2)] == [1e-6, 3e-6]


@pytest.mark.parametrize("attempt", [-5, 0, 2**31, 2**40])
def test_d1_any_attempt_number_is_accepted(attempt):
    policy = build(cloaca.BackoffStrategy.exponential(), max_attempts=5)
    assert policy.should_retry(attempt) is (attempt < 5)
    assert policy.calculate_delay(attempt) == (1.0 if attempt < 5 else 60.0)


def test_d1_delay_of_zero_stays_zero():
    assert build(cloaca.BackoffStrategy.exponential(10), initial_delay=0).calculate_delay(999) == 0


def test_d1_error_message_can_contain_a_lone_surrogate():
    assert cloaca.RetryPolicy.default().should_retry(1, ValueError("bad \ud800 text"))


@pytest.mark.parametrize(
    "options",
    [
        {"retry_delay_ms": 120_000},
        {"retry_policy": {"initial_delay": 120}},
        {"retry": cloaca.RetryPolicy(initial_delay="2m")},
    ],
)
def test_first_delay_above_the_maximum_delay_causes_a_warning(options, caplog):
    @cloaca.task(id="load", **options)
    def load(context): ...

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "is 60 s, so it replaces the first delay of 120 s" in caplog.text


def test_first_delay_within_the_maximum_delay_causes_no_warning(caplog):
    @cloaca.task(id="load", retry_delay_ms=120_000, retry_max_delay_ms=600_000)
    def load(context): ...

    assert not caplog.records
