"""The settings of a runner, each with its type, its range and its name in the engine."""

from __future__ import annotations

import os

from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

# The texts that an environment variable may have for a setting of type `bool`.
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Setting:
    """One setting. A duration is in the unit that the setting's name contains, or in seconds."""

    __slots__ = ("is_limit", "is_optional", "kind", "maximum", "minimum", "to_engine")

    def __init__(
        self,
        kind: type,
        minimum: float = 0,
        maximum: float = 1e15,
        *,
        is_optional: bool = False,
        is_limit: bool = False,
        to_engine: tuple[str, float] | None = None,
    ) -> None:
        self.kind = kind
        #: The smallest accepted value, such as 0.001 for a duration that must be greater than 0.
        self.minimum = minimum
        self.maximum = maximum
        #: Whether `None` is allowed.
        self.is_optional = is_optional
        #: Whether infinity is allowed, with the meaning of `None`.
        self.is_limit = is_limit
        #: The setting's name in the engine, and the number of microseconds in the setting's unit (0
        #: if the setting is not a duration). `None` if the engine does not have the setting.
        self.to_engine = to_engine

    def check(self, name: str, value: Any) -> Any:
        """Validates a value, and returns it in the form in which it is stored.

        Raises:
            ConfigurationError: The value has the wrong type or is out of range.
        """
        if self.is_optional and (value is None or (self.is_limit and value == float("inf"))):
            return None
        is_right = isinstance(value, bool) == (self.kind is bool)
        # Stores an integer as an integer, because earlier releases had integer seconds.
        kinds = (int, float) if self.kind is float else self.kind
        if not is_right or not isinstance(value, kinds):
            raise ConfigurationError(f"{name} must be {self.rule()}, not {value!r}")
        number: Any = value
        if self.kind is str:
            return value
        if self.kind is not bool and not self.minimum <= number <= self.maximum:
            raise ConfigurationError(f"{name} must be {self.rule()}, not {value!r}")
        return value

    def parse(self, name: str, text: str) -> Any:
        """Parses and validates the value of an environment variable.

        Raises:
            ConfigurationError: The value cannot be read, or is out of range.
        """
        word = text.strip().lower()
        try:
            if self.is_optional and word in {"none", ""}:
                return None
            if self.kind is bool:
                if word not in _TRUE | _FALSE:
                    raise ValueError(text)
                return word in _TRUE
            return self.check(name, text.strip() if self.kind is str else self.kind(word))
        except ConfigurationError:
            raise
        except ValueError:
            raise ConfigurationError(f"{name} must be {self.rule()}, not {text!r}") from None

    def rule(self) -> str:
        """Returns the rule for the value, for error messages."""
        if self.kind is bool:
            return "True or False"
        if self.kind is str:
            return "a string"
        number = "a whole number" if self.kind is int else "a number"
        # `.15g` prints whole numbers without an exponent.
        limits = f"of at least {self.minimum:.15g}"
        if self.maximum < 1e15:
            limits = f"from {self.minimum:.15g} to {self.maximum:.15g}"
        return f"{number} {limits}" + (", or None" if self.is_optional else "")


# Microseconds in a second.
_SECOND = 1_000_000

SETTINGS: dict[str, Setting] = {
    "max_concurrent_tasks": Setting(int, 1, 100_000, to_engine=("max_concurrent_tasks", 0)),
    "max_concurrent_async_tasks": Setting(
        int, 1, 100_000, to_engine=("max_concurrent_async_tasks", 0)
    ),
    "scheduler_poll_interval_ms": Setting(int, 1, to_engine=("poll_interval_us", 1000)),
    "task_timeout_seconds": Setting(
        float, 0.001, is_optional=True, is_limit=True, to_engine=("task_timeout_us", _SECOND)
    ),
    "workflow_timeout_seconds": Setting(
        float, 0.001, is_optional=True, is_limit=True, to_engine=("workflow_timeout_us", _SECOND)
    ),
    "db_pool_size": Setting(int, 1, 100_000, to_engine=("db_pool_size", 0)),
    "db_timeout": Setting(float, 0.001, to_engine=("db_timeout_us", _SECOND)),
    "enable_recovery": Setting(bool, to_engine=("enable_recovery", 0)),
    "heartbeat_interval": Setting(float, 0.01, to_engine=("heartbeat_interval_us", _SECOND)),
    "lease_ttl": Setting(float, 0.02, to_engine=("lease_ttl_us", _SECOND)),
    "stall_threshold": Setting(
        float, 0.001, is_optional=True, to_engine=("stall_threshold_us", _SECOND)
    ),
    "max_rescues": Setting(int, 0, 1_000_000, to_engine=("max_rescues", 0)),
    "max_context_bytes": Setting(int, 1, to_engine=("max_context_bytes", 0)),
    "shutdown_timeout": Setting(float, 0, to_engine=("shutdown_timeout_us", _SECOND)),
    "retention_days": Setting(
        float, 0, 1_000_000, is_optional=True, to_engine=("retention_us", 86_400 * _SECOND)
    ),
    "signal_retention_days": Setting(
        float, 0, 1_000_000, is_optional=True, to_engine=("signal_retention_us", 86_400 * _SECOND)
    ),
    "auto_migrate": Setting(bool, to_engine=("auto_migrate", 0)),
    "capture_logs": Setting(bool),
    "metrics_port": Setting(int, 0, 65_535, is_optional=True),
    "metrics_host": Setting(str),
    "metrics_allowed_hosts": Setting(str),
    "enable_cron_scheduling": Setting(bool, to_engine=("enable_cron_scheduling", 0)),
    "cron_poll_interval_seconds": Setting(int, 1),
    "max_map_items": Setting(int, 1, 10_000_000, to_engine=("max_map_items", 0)),
    "cron_max_catchup_executions": Setting(
        int, 0, 2**32 - 1, to_engine=("cron_max_catchup_executions", 0)
    ),
    "cron_enable_recovery": Setting(bool),
    "cron_recovery_interval_seconds": Setting(int, 1),
    "cron_lost_threshold_minutes": Setting(int, 1),
    "cron_max_recovery_age_seconds": Setting(int, 1),
    "cron_max_recovery_attempts": Setting(int, 0),
}

#: Other names of settings, from earlier releases.
ALIASES = {
    "pipeline_timeout_seconds": "workflow_timeout_seconds",
    "connection_pool_size": "db_pool_size",
}


class Default:
    """A default value in a signature. It can be distinguished from an equal argument."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        """Return the value's representation, which `help()` shows."""
        return repr(self.value)


#: Marks a value as a default. For type checkers, the result has the type of the value.
default_value: Callable[[T], T] = Default  # type: ignore[assignment]


def resolve(given: dict[str, Any]) -> dict[str, Any]:
    """Returns a checked value for each setting: from the caller, the environment or the default.

    Args:
        given: A value or a `Default` for every setting and alias.

    Raises:
        ConfigurationError: A value is not valid, or a setting and its alias are both given.
    """
    for alias, name in ALIASES.items():
        value = given.pop(alias)
        if isinstance(value, Default):
            continue
        if not isinstance(given[name], Default):
            raise ConfigurationError(f"{name} and {alias} are the same setting: give one")
        # The error for a bad value names the alias, which is what the caller wrote.
        given[name] = SETTINGS[name].check(alias, value)
    return {name: _resolve_one(name, value) for name, value in given.items()}


def _resolve_one(name: str, value: Any) -> Any:
    setting = SETTINGS[name]
    if not isinstance(value, Default):
        return setting.check(name, value)
    for known in (name, *(alias for alias, meant in ALIASES.items() if meant == name)):
        variable = f"CLOACA_{known.upper()}"
        text = os.environ.get(variable)
        if text is not None:
            return setting.parse(f"{name} (from {variable})", text)
    return setting.check(name, value.value)
