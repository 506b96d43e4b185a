"""The service behind both adapters: opened at the first request of each process."""

from __future__ import annotations

import os
import threading

from cloaca import _core
from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from cloaca._runner.runner import DefaultRunner

#: Maximum size of a body in bytes: the largest input of an execution, and room for the rest.
MAX_BODY = (16 << 20) + (1 << 16)


class Service:
    """The database that an adapter serves."""

    def __init__(
        self,
        database: str | DefaultRunner,
        authorize: Callable[..., Any],
        *,
        schema: str | None,
        read_only: bool,
        hide_payloads: bool,
        redact: Iterable[str],
        allowed_hosts: Iterable[str] | None,
        trust_proxy: bool,
        trace_url: str | None,
    ) -> None:
        if not callable(authorize):
            raise ConfigurationError(
                "authorize must be a function of the request",
                hint="return a cloaca.web.Access, or None for callers without access",
            )
        self.authorize = authorize
        self._url, self._schema = location_of(database, schema)
        self._options = options(
            read_only, hide_payloads, redact, allowed_hosts, trust_proxy, trace_url
        )
        self._lock = threading.Lock()
        self._opened: tuple[int, _core.WebService] | None = None

    def open(self) -> _core.WebService:
        """The open service of this process.

        Raises:
            DatabaseError: The database does not exist, cannot be reached or must be migrated.
        """
        opened = self._opened
        if opened is not None and opened[0] == os.getpid():
            return opened[1]
        with self._lock:
            opened = self._opened
            if opened is None or opened[0] != os.getpid():
                service = _core.WebService(self._url, self._schema, self._options)
                opened = self._opened = (os.getpid(), service)
        return opened[1]


def options(
    read_only: bool,
    hide_payloads: bool,
    redact: Iterable[str],
    allowed_hosts: Iterable[str] | None,
    trust_proxy: bool,
    trace_url: str | None,
) -> _core.WebOptions:
    """The engine's form of the options."""
    for name, value in (("redact", redact), ("allowed_hosts", allowed_hosts)):
        if isinstance(value, str):
            raise ConfigurationError(f"{name} is a collection of texts, not a str")
    if trace_url is not None and not trace_url.startswith(("https://", "http://")):
        raise ConfigurationError(
            f"trace_url must be an http or https URL, not {trace_url!r}",
            hint="for example https://jaeger.example.com/trace/{trace_id}",
        )
    hosts = None if allowed_hosts is None else [*allowed_hosts]
    return _core.WebOptions(read_only, hide_payloads, [*redact], hosts, trust_proxy, trace_url)


def location_of(database: str | DefaultRunner, schema: str | None) -> tuple[str, str | None]:
    """The URL and the schema of a database, or of a runner's database."""
    if isinstance(database, str):
        return database, schema
    opened = getattr(database, "_database", None)
    if opened is None:
        raise ConfigurationError(
            f"database must be a URL or a DefaultRunner, not {type(database).__name__}",
            hint="for a tenant's runner, give the URL and schema=",
        )
    url, own_schema = opened
    return url, own_schema if schema is None else schema
