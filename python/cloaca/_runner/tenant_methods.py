"""Runners of tenants, which share their parent's workers and connections."""

from __future__ import annotations

from _thread import allocate_lock

from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from cloaca import _core
    from cloaca._runner.config import DefaultRunnerConfig
    from cloaca._runner.start import Started


class TenantMethods:
    """The part of `DefaultRunner` that makes runners of tenants. Private."""

    _core: _core.Runner
    _config: DefaultRunnerConfig
    _starts_by_itself: bool

    if TYPE_CHECKING:

        def _begin(self, started: Started) -> None: ...

    def __init__(self) -> None:
        # The tenants' runners by schema, each with the URL with which it was opened.
        self._tenants: dict[str, tuple[Self, str | None]] = {}
        self._opening = allocate_lock()

    def tenant(self, schema: str, database_url: str | None = None) -> Self:
        """Return a runner for a tenant's schema of the same PostgreSQL database.

        The tenant's runner has this runner's settings, and shares its worker threads, event loop
        and connections. `max_concurrent_tasks` and `db_pool_size` limit all tenants together, and
        the tenants take turns. Executions, schedules, leases and recovery are separate for each
        tenant.

        The tenant's runner ends with this runner at the latest. Shut it down earlier if this
        process no longer serves the tenant. The tenant's runner starts by itself, unless this
        runner was created with `start=False` and has not started. In this case the tenant's runner
        starts together with this runner, or when its own `start()` is called.

        Args:
            schema: The tenant's schema. A missing schema is created if the role may create it.
            database_url: A URL of the same database with the tenant's credentials; this runner's
                URL if omitted. This runner keeps the URL in memory.

        Returns:
            A `DefaultRunner`. While it is open, further calls with the same schema return the same
            runner.

        Raises:
            ConfigurationError: The schema's name is not valid, the URL leads to another database,
                the tenant is open with another URL, this runner is itself a tenant's runner, or
                this runner is on SQLite, where a tenant is a file. The error is a `ValueError`.
            DatabaseError: The schema cannot be opened, or `db_pool_size` is below 3.
            RunnerClosedError: This runner was shut down.

        Example:
            >>> with cloaca.DefaultRunner("postgresql://app@db.example/app") as runner:
            ...     acme = runner.tenant("acme")
            ...     acme.execute("etl")

        Since 1.0.
        """
        from cloaca._runner.start import start_tenant

        with self._opening:
            known = self._tenants.get(str(schema))
            if known is not None and not known[0]._core.closed:
                if known[1] != database_url:
                    raise ConfigurationError(
                        f"the tenant {schema!r} is open with other credentials",
                        hint="shut its runner down first",
                    )
                return known[0]
            started = start_tenant(self._core, self._config, schema, database_url)
            tenant = type(self).__new__(type(self))
            tenant._starts_by_itself = self._starts_by_itself or self._core.begun
            tenant._begin(started)
            self._tenants[schema] = (tenant, database_url)
            return tenant

    def _tenant_runners(self) -> list[Self]:
        """Return the tenants' runners that `tenant` has created."""
        return [tenant for tenant, _ in self._tenants.values()]
