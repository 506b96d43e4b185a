"""The types of an `authorize` function: it receives a `Request` and returns an `Access`."""

from __future__ import annotations

from cloaca import _core
from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

#: Every permission, from the weakest to the strongest.
PERMISSIONS = ("view", "view_payloads", "control", "start", "schedule", "delete")


class Access:
    """The access of an authenticated caller. `authorize` returns it.

    Example:
        >>> cloaca.web.Access("ann", {"view", "control"})
        Access(user='ann', permissions=('view', 'control'))

    Since 1.0.
    """

    __slots__ = ("_core", "permissions", "tenants", "user")

    def __init__(
        self,
        user: str,
        permissions: Iterable[str] = PERMISSIONS,
        *,
        tenants: Iterable[str] | None = None,
    ) -> None:
        """Describe the access of a caller.

        Args:
            user: The name of the caller, for the log.
            permissions: Some of `view`, `view_payloads`, `control`, `start`, `schedule` and
                `delete`; all permissions if omitted.
            tenants: The schemas of the tenants that the caller may use. Each request must then
                name one of them, except the list of tenants. If omitted, the caller may use all
                tenants and the default schema, which requests without a tenant use.

        Raises:
            ConfigurationError: A permission is unknown, or a collection of names is a string. The
                error is a `ValueError`.
        """
        if isinstance(permissions, str) or isinstance(tenants, str):
            raise ConfigurationError(
                "permissions and tenants must be collections of names, not str"
            )
        wanted = set(permissions)
        #: The name of the caller.
        self.user = str(user)
        names = None if tenants is None else tuple(tenants)
        self._core = _core.WebAccess(self.user, [*wanted], None if names is None else [*names])
        #: The permissions.
        self.permissions = tuple(name for name in PERMISSIONS if name in wanted)
        #: The schemas of the tenants; `None` means all tenants and the default schema.
        self.tenants = names

    def __repr__(self) -> str:
        """Return the user and the permissions."""
        more = "" if self.tenants is None else f", tenants={self.tenants!r}"
        return f"Access(user={self.user!r}, permissions={self.permissions!r}{more})"


class Request:
    """The method, path and headers of a request. `authorize` receives it.

    Example:
        >>> def authorize(request):
        ...     user = request.headers.get("x-user")
        ...     return cloaca.web.Access(user) if user else None

    Since 1.0.
    """

    __slots__ = ("client", "environ", "headers", "method", "path", "scope")

    def __init__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        client: str | None,
        scope: Any = None,
        environ: Any = None,
    ) -> None:
        """Create a request.

        Args:
            method: The HTTP method.
            path: The path below the mount.
            headers: The headers, by their names in lower case.
            client: The address of the caller, if the server knows the address.
            scope: The ASGI scope, for example for `scope["user"]` or `scope["session"]`.
            environ: The WSGI environment.
        """
        #: The HTTP method.
        self.method = method
        #: The path below the mount.
        self.path = path
        #: The headers, by their names in lower case.
        self.headers = headers
        #: The address of the caller, if the server knows the address.
        self.client = client
        #: The ASGI scope; `None` for a WSGI request.
        self.scope = scope
        #: The WSGI environment; `None` for an ASGI request.
        self.environ = environ


def core_of(access: object) -> _core.WebAccess | None:
    """Converts the return value of `authorize` to the type of `cloaca._core`.

    Raises:
        TypeError: `authorize` returned neither an `Access` nor `None`.
    """
    if access is None:
        return None
    if isinstance(access, Access):
        return access._core
    raise TypeError(
        f"authorize must return a cloaca.web.Access, or None to refuse, not {access!r:.80}"
    )
