"""The service that both adapters use. Each process opens it at its first request."""

from __future__ import annotations

import os
import threading

from cloaca import _core
from cloaca._observe.logger import logger
from cloaca._values.arguments import check_flag, check_string
from cloaca._values.exceptions import ConfigurationError, DatabaseError
from cloaca._web.log import write_log
from cloaca._web.unavailable import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from cloaca._runner.runner import DefaultRunner

#: Maximum size of a body in bytes: the largest input of an execution, and 64 KiB for other fields.
MAX_BODY = (16 << 20) + (1 << 16)

# The URLs of a database in memory.
_IN_MEMORY = frozenset({":memory:", "sqlite://:memory:", "sqlite:///:memory:"})


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
        polled: bool = False,
    ) -> None:
        if not callable(authorize):
            raise ConfigurationError(
                f"authorize must be a function that receives a request, not {authorize!r:.80}",
                hint="return a cloaca.web.Access, or None for callers without access",
            )
        self.authorize = authorize
        self._url, self._schema = location_of(database, schema)
        self._options = options(
            read_only, hide_payloads, redact, allowed_hosts, trust_proxy, trace_url, polled=polled
        )
        self._lock = threading.Lock()
        self._opened: tuple[int, _core.WebService] | None = None
        # The number of failed attempts to open the service, and the last failure.
        self._failures = 0
        self._failure: Unavailable | None = None

    def open(self) -> _core.WebService | Unavailable:
        """Return this process's service. The first call opens it.

        If the database does not exist, cannot be reached or must be migrated, returns the answer to
        the request instead. The next call tries again.
        """
        opened = self._opened
        if opened is not None and opened[0] == os.getpid():
            return opened[1]
        failures = self._failures
        with self._lock:
            opened = self._opened
            if opened is not None and opened[0] == os.getpid():
                return opened[1]
            if self._failure is not None and self._failures != failures:
                # An attempt has failed while this request waited for the lock. Another attempt
                # could take just as long.
                return self._failure
            try:
                service = _core.WebService(self._url, self._schema, self._options)
            except DatabaseError as error:
                return self._fail(error)
            self._failure = None
            write_log(service.log)
            self._opened = (os.getpid(), service)
            return service

    def _fail(self, error: DatabaseError) -> Unavailable:
        """Returns the answer to a request for which the database could not be opened.

        Logs the error unless the previous attempt failed with the same error.
        """
        failure = self._failure
        if failure is None or failure.text != str(error):
            failure = Unavailable(error)
            logger().error("the HTTP API answers with 503: %s [%s]", error, failure.instance)
        self._failures += 1
        self._failure = failure
        return failure


def options(
    read_only: bool,
    hide_payloads: bool,
    redact: Iterable[str],
    allowed_hosts: Iterable[str] | None,
    trust_proxy: bool,
    trace_url: str | None,
    *,
    polled: bool = False,
) -> _core.WebOptions:
    """Validates the options, and returns them in the engine's form.

    `polled`: whether the page polls for changes every few seconds instead of following the stream.
    """
    for name, flag in (
        ("read_only", read_only),
        ("hide_payloads", hide_payloads),
        ("trust_proxy", trust_proxy),
    ):
        check_flag(name, flag)
    words = _strings("redact", redact)
    hosts = None if allowed_hosts is None else _strings("allowed_hosts", allowed_hosts)
    if trace_url is not None and not check_string("trace_url", trace_url).startswith(
        ("https://", "http://")
    ):
        raise ConfigurationError(
            f"trace_url must be an http or https URL, not {trace_url!r}",
            hint="for example https://jaeger.example.com/trace/{trace_id}",
        )
    return _core.WebOptions(read_only, hide_payloads, words, hosts, trust_proxy, trace_url, polled)


def _strings(name: str, given: Any) -> list[str]:
    """Returns the strings of a collection.

    Raises:
        ConfigurationError: The value is not a collection of strings.
    """
    if isinstance(given, str) or not hasattr(type(given), "__iter__"):
        raise ConfigurationError(
            f"{name} must be a collection of strings, not {type(given).__name__}"
        )
    found = [*given]
    for part in found:
        if not isinstance(part, str):
            raise ConfigurationError(f"{name} must contain strings, not {type(part).__name__}")
    return found


def location_of(database: str | DefaultRunner, schema: str | None) -> tuple[str, str | None]:
    """Returns the URL and the schema of a database, or of a runner's database.

    Raises:
        ConfigurationError: The value is neither a URL nor a runner, or the database is in memory.
    """
    if schema is not None:
        check_string("schema", schema)
    location = database if isinstance(database, str) else _location_of_runner(database)
    if location in _IN_MEMORY:
        raise ConfigurationError(
            "a database in memory cannot be served, because only its runner can open it",
            hint="use a file, such as sqlite:///etl.db",
        )
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


def _location_of_runner(runner: Any) -> str:
    core = getattr(runner, "_core", None)
    return str(getattr(core, "location", ""))
