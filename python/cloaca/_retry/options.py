"""Converts the retry options of a task into a policy."""

from __future__ import annotations

from cloaca._retry.conditions import BackoffStrategy, RetryCondition
from cloaca._retry.policy import RetryPolicy, attempts, exception_names
from cloaca._values.arguments import check_flag
from cloaca._values.duration import milliseconds_to_us
from cloaca._values.exceptions import ConfigurationError, TaskValidationError
from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

_BACKOFFS: dict[str, Callable[[], BackoffStrategy]] = {
    "fixed": BackoffStrategy.fixed,
    "linear": BackoffStrategy.linear,
    "exponential": BackoffStrategy.exponential,
}
_CONDITIONS: dict[str, Callable[[], RetryCondition]] = {
    "never": RetryCondition.never,
    "transient": RetryCondition.transient_only,
    "all": RetryCondition.all_errors,
}
# The keys of `retry_policy={...}`. Delays are in seconds, or in milliseconds for keys with `_ms`.
_WORDS = (
    "max_attempts",
    "backoff",
    "initial_delay",
    "initial_delay_ms",
    "max_delay",
    "max_delay_ms",
    "jitter",
    "condition",
    "retry_on",
    "never_on",
)
# Other names of these keys, such as those of the options of a task and of `RetryPolicy`.
_SYNONYMS = {
    "attempts": "max_attempts",
    "retry_attempts": "max_attempts",
    "backoff_strategy": "backoff",
    "retry_backoff": "backoff",
    "delay": "initial_delay",
    "delay_ms": "initial_delay_ms",
    "retry_delay_ms": "initial_delay_ms",
    "retry_max_delay_ms": "max_delay_ms",
    "with_jitter": "jitter",
    "retry_jitter": "jitter",
    "retry_condition": "condition",
}


def policy_of(options: Mapping[str, Any]) -> RetryPolicy:
    """Returns the policy that the options of a task define.

    Warns if the initial delay exceeds the maximum delay, which caps every delay.

    Args:
        options: `retry`, `retry_policy`, `never_on` and every `retry_*`; `None` if omitted.

    Raises:
        TaskValidationError: An option is not valid, or two options exclude each other.
    """
    policy = _policy(options)
    if policy.initial_delay > policy.max_delay:
        from cloaca._values.package_logger import logger

        logger().warning(
            "the longest retry delay is %g s, so it replaces the first delay of %g s; "
            "hint: also set the longest delay (retry_max_delay_ms or max_delay)",
            policy.max_delay,
            policy.initial_delay,
        )
    return policy


def _policy(options: Mapping[str, Any]) -> RetryPolicy:
    given = {name: value for name, value in options.items() if value is not None}
    for whole in ("retry", "retry_policy"):
        others = sorted(name for name in given if name not in {whole, "never_on"})
        if whole in given and others:
            raise TaskValidationError(
                f"give {whole} or {', '.join(others)}, not both",
                hint=f"{whole} is a whole policy: set all retry options in it",
            )
    if "retry" in given:
        return _with_never_on(_checked(given["retry"]), given.get("never_on"))
    if "retry_policy" in given:
        return _with_never_on(from_mapping(given["retry_policy"]), given.get("never_on"))
    return RetryPolicy(**_keywords(given))


def from_mapping(data: Mapping[str, Any]) -> RetryPolicy:
    """Returns the policy that a dict describes.

    Args:
        data: The dict. Its keys are `max_attempts`, `backoff`, `initial_delay` and `max_delay` (in
            seconds), `initial_delay_ms` and `max_delay_ms`, `jitter`, `condition`, `retry_on` and
            `never_on`. The names that the options of a task and `RetryPolicy` use also work.

    Raises:
        TaskValidationError: A key is not known or is set twice, or a value is not valid.
    """
    from collections.abc import Mapping

    if not isinstance(data, Mapping):
        raise TaskValidationError(f"retry_policy must be a mapping, not {type(data).__name__}")
    given, data = data, {}
    for name, value in given.items():
        word = _SYNONYMS.get(name, name)
        if word not in _WORDS:
            raise TaskValidationError(
                f"unknown key {name!r} in retry_policy",
                hint=suggestion(name, _WORDS, listing=True),
            )
        if word in data:
            raise TaskValidationError(f"retry_policy sets {word} twice, under two names")
        data[word] = value
    keywords: dict[str, Any] = {
        name: data[name] for name in ("max_attempts", "retry_on", "never_on") if name in data
    }
    for span in ("initial_delay", "max_delay"):
        if span in data and f"{span}_ms" in data:
            raise TaskValidationError(f"retry_policy has both {span} and {span}_ms")
        if span in data:
            keywords[span] = data[span]
        elif f"{span}_ms" in data:
            keywords[span] = _milliseconds(f"{span}_ms", data[f"{span}_ms"])
    if "jitter" in data:
        keywords["with_jitter"] = check_flag("jitter", data["jitter"], TaskValidationError)
    if "backoff" in data:
        keywords["backoff"] = _backoff("backoff", data["backoff"])
    if "condition" in data:
        keywords["condition"] = _condition("condition", data["condition"])
    return RetryPolicy(**keywords)


def _keywords(given: Mapping[str, Any]) -> dict[str, Any]:
    keywords: dict[str, Any] = {}
    if "retry_attempts" in given:
        keywords["max_attempts"] = attempts("retry_attempts", given["retry_attempts"])
    if "retry_backoff" in given:
        keywords["backoff"] = _backoff("retry_backoff", given["retry_backoff"])
    if "retry_delay_ms" in given:
        keywords["initial_delay"] = _milliseconds("retry_delay_ms", given["retry_delay_ms"])
    if "retry_max_delay_ms" in given:
        keywords["max_delay"] = _milliseconds("retry_max_delay_ms", given["retry_max_delay_ms"])
    if "retry_condition" in given:
        keywords["condition"] = _condition("retry_condition", given["retry_condition"])
    if "retry_jitter" in given:
        jitter = check_flag("retry_jitter", given["retry_jitter"], TaskValidationError)
        keywords["with_jitter"] = jitter
    for types in ("retry_on", "never_on"):
        if types in given:
            keywords[types] = exception_names(types, given[types])
    return keywords


def _checked(policy: object) -> RetryPolicy:
    if isinstance(policy, RetryPolicy):
        return policy
    raise TaskValidationError(
        f"retry must be a RetryPolicy, not {type(policy).__name__}",
        hint="a dict goes into retry_policy=, a number into retry_attempts=",
    )


def _with_never_on(
    policy: RetryPolicy, types: Iterable[type[BaseException] | str] | None
) -> RetryPolicy:
    if types is None:
        return policy
    return policy.replace(never_on=(*policy.never_on, *exception_names("never_on", types)))


def _backoff(option: str, value: object) -> BackoffStrategy:
    if isinstance(value, BackoffStrategy):
        return value
    return _word(option, value, _BACKOFFS)()


def _condition(option: str, value: object) -> RetryCondition:
    if isinstance(value, RetryCondition):
        return value
    if isinstance(value, (list, tuple, set, frozenset)):
        return RetryCondition.error_pattern(value)
    return _word(option, value, _CONDITIONS)()


def _word(option: str, value: object, words: Mapping[str, Callable[[], T]]) -> Callable[[], T]:
    if isinstance(value, str) and value in words:
        return words[value]
    raise TaskValidationError(
        f"unknown {option} {value!r}", hint=suggestion(value, words, listing=True)
    )


def _milliseconds(option: str, value: Any) -> float:
    """Returns a delay in seconds. A number is in milliseconds."""
    try:
        return milliseconds_to_us(option, value, zero=True) / 1_000_000
    except ConfigurationError as error:
        raise TaskValidationError(error.message, hint=error.hint) from None
