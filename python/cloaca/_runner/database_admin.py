"""Tenants of a PostgreSQL database. Each tenant is a schema and a role."""

from __future__ import annotations

from cloaca import _core
from cloaca._values.arguments import check_flag, check_string
from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class TenantConfig:
    """The description of a tenant. The constructor checks the names without using a database.

    Example:
        >>> cloaca.TenantConfig(schema_name="acme", username="acme_user")
        TenantConfig(schema_name='acme', username='acme_user')

    Since 1.0.
    """

    __slots__ = ("password", "schema_name", "username")

    def __init__(self, schema_name: str, username: str, password: str | None = None) -> None:
        """Create the description of a tenant.

        Args:
            schema_name: The name of the schema: at most 63 letters, digits and `_`. It must not
                begin with a digit, and must not be reserved.
            username: The name of the role. The same rules apply.
            password: The role's password. If omitted, a strong password is generated.

        Raises:
            ConfigurationError: A name or the password is not valid. The error is a `ValueError`.
        """
        for what, value in (
            ("schema_name", schema_name),
            ("username", username),
            ("password", "" if password is None else password),
        ):
            check_string(what, value)
        try:
            _core.check_tenant(schema_name, username, password)
        except UnicodeEncodeError:
            # The `UnicodeError` is dropped, because its message shows the string, which may be the
            # password.
            raise ConfigurationError("a tenant's names and password must be Unicode text") from None
        self.schema_name = schema_name
        self.username = username
        self.password = password

    def __eq__(self, other: object) -> bool:
        """Return whether both describe the same tenant with the same password."""
        if not isinstance(other, TenantConfig):
            return NotImplemented
        return _fields(self) == _fields(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the schema and the role, without the password."""
        return f"TenantConfig(schema_name={self.schema_name!r}, username={self.username!r})"


class TenantCredentials:
    """The credentials of a tenant. Keep the password: it is not stored anywhere else.

    Example:
        >>> made = admin.create_tenant(cloaca.TenantConfig("acme", "acme_user"))
        >>> made.username, made.schema_name
        ('acme_user', 'acme')

    Since 1.0.
    """

    __slots__ = ("connection_string", "password", "schema_name", "username")

    #: The name of the role.
    username: str
    #: The role's password.
    password: str
    #: The name of the schema.
    schema_name: str
    #: A URL with the role and the password, and the administrator's host, port and database.
    connection_string: str

    def __init__(
        self, username: str, password: str, schema_name: str, connection_string: str
    ) -> None:
        """Private: `DatabaseAdmin.create_tenant` creates these objects.

        Args:
            username: The name of the role.
            password: The role's password.
            schema_name: The name of the schema.
            connection_string: The URL of the tenant.
        """
        self.username = username
        self.password = password
        self.schema_name = schema_name
        self.connection_string = connection_string

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same credentials."""
        if not isinstance(other, TenantCredentials):
            return NotImplemented
        return self.connection_string == other.connection_string and _fields(self) == _fields(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the role and the schema, without the password."""
        return f"TenantCredentials(username={self.username!r}, schema_name={self.schema_name!r})"


class Tenant:
    """An existing tenant.

    Attributes:
        schema_name: The name of the schema.
        username: The role that was created for the schema; `None` for a schema that `with_schema`
            created.

    Example:
        >>> admin.list_tenants()
        [Tenant(schema_name='acme', username='acme_user')]

    Since 1.0.
    """

    __slots__ = ("schema_name", "username")

    def __init__(self, schema_name: str, username: str | None) -> None:
        """Private: `DatabaseAdmin.list_tenants` creates these objects.

        Args:
            schema_name: The name of the schema.
            username: The role that was created for the schema; `None` for a schema that
                `with_schema` created.
        """
        self.schema_name = schema_name
        self.username = username

    def __eq__(self, other: object) -> bool:
        """Return whether both name the same tenant."""
        if not isinstance(other, Tenant):
            return NotImplemented
        return (self.schema_name, self.username) == (other.schema_name, other.username)

    def __hash__(self) -> int:
        """Return the hash of both names."""
        return hash((self.schema_name, self.username))

    def __repr__(self) -> str:
        """Return both names."""
        return f"Tenant(schema_name={self.schema_name!r}, username={self.username!r})"


class DatabaseAdmin:
    """Creates, lists, migrates and removes the tenants of a PostgreSQL database.

    It keeps no connection open between calls. A call that fails changes nothing, unless the error
    says that the outcome is unknown.

    Example:
        >>> admin = cloaca.DatabaseAdmin("postgresql://postgres@db.example/app")
        >>> made = admin.create_tenant(cloaca.TenantConfig("acme", "acme_user"))
        >>> with cloaca.DefaultRunner(made.connection_string, schema="acme") as runner:
        ...     runner.execute("etl")

    Since 1.0.
    """

    def __init__(self, url: str) -> None:
        """Create an administrator of a database.

        Args:
            url: A `postgresql://` URL. Its role must be allowed to create roles, and to
                create schemas in the database.

        Raises:
            ConfigurationError: The URL cannot be read, or is an SQLite URL: on SQLite, a tenant is
                a file. The error is a `ValueError`.
        """
        self._core = _core.DatabaseAdmin(check_string("the database URL", url))

    def create_tenant(self, config: TenantConfig) -> TenantCredentials:
        """Create a tenant: a migrated schema, and a role that may read and write only that schema.

        Args:
            config: The names, and optionally the password. If the config has no password, one is
                generated.

        Returns:
            The tenant's credentials. Keep the password: it is not stored anywhere else.

        Raises:
            DatabaseError: The schema or the role already exists, or the URL's role lacks a
                privilege. Nothing was created.
            ConnectionError: The database does not answer. The error is a `DatabaseError`.

        Example:
            >>> made = admin.create_tenant(cloaca.TenantConfig("acme", "acme_user"))
            >>> print(made.connection_string)

        Since 1.0.
        """
        if not isinstance(config, TenantConfig):
            raise ConfigurationError(
                f"config must be a TenantConfig, not {type(config).__name__}",
                hint="pass cloaca.TenantConfig(schema_name='acme', username='acme_user')",
            )
        made = self._core.create_tenant(config.schema_name, config.username, config.password)
        return TenantCredentials(
            made.username, made.password, made.schema_name, made.connection_string
        )

    def remove_tenant(self, schema_name: str, username: str, *, force: bool = False) -> None:
        """Remove a tenant: its schema with everything in it, and its role.

        Args:
            schema_name: The name of the schema.
            username: The role that was created for the schema.
            force: Whether to remove the tenant even while runners use it; their sessions are ended.

        Raises:
            ConfigurationError: A name is not valid. The error is a `ValueError`.
            DatabaseError: There is no such tenant, the role is not the tenant's, or a runner uses
                the tenant and `force` is not set. Nothing was removed.

        Example:
            >>> admin.remove_tenant("acme", "acme_user")

        Since 1.0.
        """
        TenantConfig(schema_name, username)
        self._core.remove_tenant(schema_name, username, check_flag("force", force))

    def list_tenants(self) -> list[Tenant]:
        """Return the tenants of the database, sorted by the names of their schemas.

        Raises:
            DatabaseError: The database cannot be read.

        Example:
            >>> [tenant.schema_name for tenant in admin.list_tenants()]
            ['acme', 'globex']

        Since 1.0.
        """
        return [Tenant(found.schema_name, found.username) for found in self._core.list_tenants()]

    def migrate_tenant(self, schema_name: str) -> None:
        """Migrate a tenant's schema to this program's version.

        The tenant's role does not have the privileges to do this.

        Args:
            schema_name: The name of the schema.

        Raises:
            ConfigurationError: The name is not valid. The error is a `ValueError`.
            DatabaseError: There is no such tenant.
            MigrationError: The tenant's schema is newer than this program.

        Example:
            >>> for tenant in admin.list_tenants():
            ...     admin.migrate_tenant(tenant.schema_name)

        Since 1.0.
        """
        self._core.migrate_tenant(check_string("schema_name", schema_name))

    def __repr__(self) -> str:
        """Return the database, without a password."""
        return f"<DatabaseAdmin {self._core.location}>"


def _fields(value: Any) -> tuple[Any, ...]:
    return (value.schema_name, value.username, value.password)
