"""The settings of a runner."""

from __future__ import annotations

import inspect

import pytest

import cloaca
from cloaca._runner.settings import ALIASES, SETTINGS

DEFAULTS = {
    "max_concurrent_tasks": 4,
    "scheduler_poll_interval_ms": 100,
    "task_timeout_seconds": 300,
    "workflow_timeout_seconds": None,
    "db_pool_size": 10,
    "enable_recovery": True,
    "enable_cron_scheduling": True,
    "cron_poll_interval_seconds": 30,
    "cron_max_catchup_executions": 100,
    "cron_enable_recovery": True,
    "cron_recovery_interval_seconds": 300,
    "cron_lost_threshold_minutes": 10,
    "cron_max_recovery_age_seconds": 86400,
    "cron_max_recovery_attempts": 3,
    "max_concurrent_async_tasks": 1000,
    "heartbeat_interval": 5,
    "lease_ttl": 15,
    "stall_threshold": None,
    "max_rescues": 3,
    "max_context_bytes": 16 * 1024 * 1024,
    "shutdown_timeout": 30,
    "db_timeout": 30,
    "retention_days": 30,
    "signal_retention_days": 30,
    "max_map_items": 100_000,
    "auto_migrate": True,
    "capture_logs": False,
    "metrics_port": None,
    "metrics_host": "127.0.0.1",
    "metrics_allowed_hosts": "",
}


def test_settings_have_the_documented_defaults():
    config = cloaca.DefaultRunnerConfig.default()
    assert config.to_dict() == DEFAULTS
    assert config == cloaca.DefaultRunnerConfig()
    for name, value in DEFAULTS.items():
        assert getattr(config, name) == value
        assert f"{name}=" in repr(config)


def test_help_shows_every_setting_with_its_default():
    parameters = inspect.signature(cloaca.DefaultRunnerConfig).parameters
    assert set(parameters) == set(DEFAULTS) | set(ALIASES)
    assert repr(parameters["max_concurrent_tasks"].default) == "4"
    documentation = cloaca.DefaultRunnerConfig.__init__.__doc__ or ""
    for name in parameters:
        assert f"{name}: " in documentation


def test_settings_can_be_read_and_changed():
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=8, retention_days=None)
    assert (config.max_concurrent_tasks, config.retention_days) == (8, None)
    config.max_concurrent_tasks = 2
    assert config.to_dict()["max_concurrent_tasks"] == 2
    with pytest.raises(cloaca.ConfigurationError, match="max_concurrent_tasks"):
        config.max_concurrent_tasks = 0
    with pytest.raises(AttributeError, match="did you mean 'lease_ttl'"):
        config.lease_tll = 3  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"^DefaultRunnerConfig has no setting 'qqqqqqqq'$"):
        config.qqqqqqqq = 3  # type: ignore[attr-defined]


def test_a_runner_refuses_settings_that_do_not_fit_together():
    config = cloaca.DefaultRunnerConfig()
    config.lease_ttl = 0.5
    with pytest.raises(cloaca.ConfigurationError, match=r"lease_ttl .* at least twice heartbeat"):
        cloaca.DefaultRunner("sqlite://:memory:", config)


def test_names_of_earlier_releases_are_accepted():
    config = cloaca.DefaultRunnerConfig(pipeline_timeout_seconds=60, connection_pool_size=3)
    assert config.workflow_timeout_seconds == config.pipeline_timeout_seconds == 60
    assert config.db_pool_size == config.connection_pool_size == 3
    with pytest.raises(cloaca.ConfigurationError, match="the same setting"):
        cloaca.DefaultRunnerConfig(pipeline_timeout_seconds=60, workflow_timeout_seconds=60)


@pytest.mark.parametrize("name", ["pipeline_timeout_seconds", "connection_pool_size"])
def test_error_for_a_bad_value_names_the_alias_that_was_given(name):
    with pytest.raises(cloaca.ConfigurationError, match=f"^{name} must be "):
        cloaca.DefaultRunnerConfig(**{name: -1})
    config = cloaca.DefaultRunnerConfig()
    with pytest.raises(cloaca.ConfigurationError, match=f"^{name} must be "):
        setattr(config, name, -1)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("max_concurrent_tasks", 0, "from 1 to 100000, not 0"),
        ("max_concurrent_tasks", 1.5, "whole number"),
        ("max_concurrent_tasks", True, "whole number"),
        ("max_concurrent_tasks", "4", "whole number"),
        ("max_concurrent_tasks", None, "not None"),
        ("task_timeout_seconds", 0, "or None, not 0"),
        ("task_timeout_seconds", -1, "not -1"),
        ("task_timeout_seconds", float("nan"), "not nan"),
        ("lease_ttl", float("inf"), "not inf"),
        ("lease_ttl", 9, "at least twice"),
        ("enable_recovery", 1, "True or False"),
        ("max_rescues", -1, "not -1"),
        ("retention_days", -1, "or None"),
        ("db_timeout", 0, "not 0"),
        ("max_context_bytes", 0, "not 0"),
        ("cron_max_catchup_executions", -1, "not -1"),
    ],
)
def test_error_for_a_bad_setting_names_it_and_the_problem(name, value, text):
    with pytest.raises(cloaca.ConfigurationError, match=f"{name}.*{text}") as caught:
        cloaca.DefaultRunnerConfig(**{name: value})
    assert isinstance(caught.value, ValueError)


def test_the_environment_supplies_omitted_settings(monkeypatch):
    monkeypatch.setenv("CLOACA_MAX_CONCURRENT_TASKS", "7")
    monkeypatch.setenv("CLOACA_TASK_TIMEOUT_SECONDS", "none")
    monkeypatch.setenv("CLOACA_ENABLE_RECOVERY", "off")
    monkeypatch.setenv("CLOACA_LEASE_TTL", "20.5")
    config = cloaca.DefaultRunnerConfig(lease_ttl=30)
    assert config.max_concurrent_tasks == 7
    assert config.task_timeout_seconds is None
    assert config.enable_recovery is False
    assert config.lease_ttl == 30
    assert cloaca.DefaultRunnerConfig(max_concurrent_tasks=4).max_concurrent_tasks == 4


def test_the_environment_accepts_names_of_earlier_releases(monkeypatch):
    monkeypatch.setenv("CLOACA_PIPELINE_TIMEOUT_SECONDS", "7")
    monkeypatch.setenv("CLOACA_CONNECTION_POOL_SIZE", "6")
    config = cloaca.DefaultRunnerConfig()
    assert config.workflow_timeout_seconds == 7
    assert config.db_pool_size == 6
    monkeypatch.setenv("CLOACA_DB_POOL_SIZE", "5")
    assert cloaca.DefaultRunnerConfig().db_pool_size == 5


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MAX_CONCURRENT_TASKS", "many"),
        ("MAX_CONCURRENT_TASKS", "0"),
        ("MAX_CONCURRENT_TASKS", "1.5"),
        ("MAX_CONCURRENT_TASKS", ""),
        ("ENABLE_RECOVERY", "maybe"),
        ("LEASE_TTL", "nan"),
    ],
)
def test_error_for_a_bad_environment_value_names_the_variable(monkeypatch, name, text):
    monkeypatch.setenv(f"CLOACA_{name}", text)
    with pytest.raises(cloaca.ConfigurationError, match=f"CLOACA_{name}"):
        cloaca.DefaultRunnerConfig()


def test_the_engine_gets_durations_in_microseconds():
    data = cloaca.DefaultRunnerConfig(retention_days=1, lease_ttl=12.5)._to_engine()
    assert data["retention_us"] == 86_400_000_000
    assert data["lease_ttl_us"] == 12_500_000
    assert data["poll_interval_us"] == 100_000
    assert data["workflow_timeout_us"] is None
    assert data["auto_migrate"] is True
    names = {setting.to_engine[0] for setting in SETTINGS.values() if setting.to_engine}
    assert set(data) == names


def test_the_url_can_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("CLOACA_DATABASE_URL", raising=False)
    with pytest.raises(cloaca.ConfigurationError, match="no database URL"):
        cloaca.DefaultRunner()
    monkeypatch.setenv("CLOACA_DATABASE_URL", f"sqlite:///{tmp_path}/from_env.db")
    with cloaca.DefaultRunner() as runner:
        assert "from_env.db" in repr(runner)
    assert (tmp_path / "from_env.db").exists()


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ("", "Schema name cannot be empty"),
        ("a-b", "must contain only alphanumeric characters and underscores"),
        ("a; drop", "must contain only alphanumeric characters and underscores"),
        ("9a", "must contain only alphanumeric characters and underscores"),
        ("x" * 64, "must contain only alphanumeric characters and underscores"),
        ("fine", "Failed to create DefaultRunner with schema 'fine'.*SQLite"),
    ],
)
def test_h1_h3_invalid_schema_is_refused(schema, text, tmp_path):
    database = f"sqlite:///{tmp_path / 'test.db'}"
    with pytest.raises(cloaca.ConfigurationError, match=f"(?s){text}"):
        cloaca.DefaultRunner.with_schema(database, schema)


def test_a_runner_refuses_settings_of_another_class(database):
    with pytest.raises(cloaca.ConfigurationError, match="dict"):
        cloaca.DefaultRunner(database, {"max_concurrent_tasks": 1})  # type: ignore[arg-type]
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2)
    with cloaca.DefaultRunner.with_config(database, config) as runner:
        assert runner.config is config


def test_invalid_log_level_in_the_environment_is_refused(monkeypatch, database):
    monkeypatch.setenv("CLOACA_LOG_LEVEL", "loud")
    with pytest.raises(cloaca.ConfigurationError, match="CLOACA_LOG_LEVEL"):
        cloaca.DefaultRunner(database)
