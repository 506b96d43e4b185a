"""Tenants of a PostgreSQL database: a schema and a role each."""

from __future__ import annotations

from cloaca import _core
from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class TenantConfig:
    """The description of a tenant. The names are checked at once, without using a database.

    Example:
        >>> cloaca.TenantConfig(schema_name="acme", username="acme_user")
        TenantConfig(schema_name='acme', username='acme_user')

    Since 1.0.
    """

    __slots__ = ("password", "schema_name", "username")

    def __init__(self, schema_name: str, username: str, password: str | None = None) -> None:
        """Create the description of a tenant.

        Args:
            schema_name: The schema: at most 63 letters, digits and `_`, not beginning with a
                digit, and not reserved.
            username: The role, under the same rule.
            password: Its password. A strong one is generated if omitted.

        Raises:
            ConfigurationError: A name or the password is not valid. The error is a `ValueError`.
        """
        for what, value in (
            ("schema_name", schema_name),
            ("username", username),
            ("password", "" if password is None else password),
        ):
            if not isinstance(value, str):
                raise ConfigurationError(f"{what} must be a string, not {type(value).__name__}")
        try:
            _core.check_tenant(schema_name, username, password)
        except UnicodeEncodeError:
            # Its message would show the text, which may be the password.
            raise ConfigurationError("a tenant's names and password must be Unicode text") from None
        self.schema_name = schema_name
        self.username = username
        self.password = password

    def __eq__(self, other: object) -> bool:
        """Whether both describe the same tenant, password included."""
        if not isinstance(other, TenantConfig):
            return NotImplemented
        return _fields(self) == _fields(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """The schema and the role, without the password."""
        return f"TenantConfig(schema_name={self.schema_name!r}, username={self.username!r})"


class TenantCredentials:
    """The credentials of a tenant. Keep the password: it is not stored anywhere else.

    Since 1.0.
    """

    __slots__ = ("connection_string", "password", "schema_name", "username")

    #: The role.
    username: str
    #: Its password.
    password: str
    #: The schema.
    schema_name: str
    #: A URL with the password, for the host, port and database of the administrator's URL.
    connection_string: str

    def __init__(
        self, username: str, password: str, schema_name: str, connection_string: str
    ) -> None:
        """Private: `DatabaseAdmin.create_tenant` returns credentials.

        Args:
            username: The role.
            password: Its password.
            schema_name: The schema.
            connection_string: The URL of the tenant.
        """
        self.username = username
        self.password = password
        self.schema_name = schema_name
        self.connection_string = connection_string

    def __eq__(self, other: object) -> bool:
        """Whether both are the same, password included."""
        if not isinstance(other, TenantCredentials):
            return NotImplemented
        return self.connection_string == other.connection_string and _fields(self) == _fields(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """The role and the schema, without the password."""
        return f"TenantCredentials(username={self.username!r}, schema_name={self.schema_name!r})"


class Tenant:
    """An existing tenant. Since 1.0."""

    __slots__ = ("schema_name", "username")

    def __init__(self, schema_name: str, username: str | None) -> None:
        """Private: `DatabaseAdmin.list_tenants` returns tenants.

        Args:
            schema_name: The schema.
            username: The role that was created for it; `None` for a schema that `with_schema`
                created.
        """
        self.schema_name = schema_name
        self.username = username

    def __eq__(self, other: object) -> bool:
        """Whether both name the same tenant."""
        if not isinstance(other, Tenant):
            return NotImplemented
        return (self.schema_name, self.username) == (other.schema_name, other.username)

    def __hash__(self) -> int:
        """The hash of both names."""
        return hash((self.schema_name, self.username))

    def __repr__(self) -> str:
        """Both names."""
        return f"Tenant(schema_name={self.schema_name!r}, username={self.username!r})"


class DatabaseAdmin:
    """Creates, lists, migrates and removes the tenants of a PostgreSQL database.

    It holds no connection between calls. A call that fails changes nothing.

    Example:
        >>> admin = cloaca.DatabaseAdmin("postgresql://postgres@db.example/app")
        >>> made = admin.create_tenant(cloaca.TenantConfig("acme", "acme_user"))
        >>> with cloaca.DefaultRunner(made.connection_string, schema="acme") as runner:
        ...     runner.execute("etl")

    Since 1.0.
    """

    def __init__(self, database_url: str) -> None:
        """Create an administrator of a database.

        Args:
            database_url: A `postgresql://` URL. Its role must be allowed to create roles, and to
                create schemas in the database.

        Raises:
            ConfigurationError: The URL cannot be read, or is an SQLite URL: on SQLite, a tenant is
                a file. The error is a `ValueError`.
        """
        if not isinstance(database_url, str):
            raise ConfigurationError(
                f"the database URL must be a string, not {type(database_url).__name__}"
            )
        self._core = _core.DatabaseAdmin(database_url)

    def create_tenant(self, config: TenantConfig) -> TenantCredentials:
        """Create a tenant: a migrated schema, and a role that may read and write only that schema.

        Args:
            config: The names, and optionally the password; one is generated if omitted.

        Returns:
            The tenant's credentials. Keep the password: it is not stored anywhere else.

        Raises:
            DatabaseError: The schema or the role exists already, or this administrator lacks a
                privilege. In that case nothing was created.
            ConnectionError: The database does not answer. It is a `DatabaseError`.

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
            schema_name: The schema.
            username: The role that was created for it.
            force: Whether to remove it even while runners use it; their sessions are ended.

        Raises:
            ConfigurationError: A name is not valid. The error is a `ValueError`.
            DatabaseError: There is no such tenant, the role is not the tenant's, or a runner uses
                the tenant and `force` is not set. In that case nothing was removed.

        Since 1.0.
        """
        TenantConfig(schema_name, username)
        self._core.remove_tenant(schema_name, username, force)

    def list_tenants(self) -> list[Tenant]:
        """The tenants of the database, by the names of their schemas.

        Raises:
            DatabaseError: The database cannot be read.

        Since 1.0.
        """
        return [Tenant(found.schema_name, found.username) for found in self._core.list_tenants()]

    def migrate_tenant(self, schema_name: str) -> None:
        """Migrate a tenant's schema to this program's version. The tenant's role may not do this.

        Args:
            schema_name: The schema.

        Raises:
            DatabaseError: There is no such tenant.
            MigrationError: Its schema is newer than this program.

        Since 1.0.
        """
        self._core.migrate_tenant(schema_name)

    def __repr__(self) -> str:
        """The database, without a password."""
        return f"<DatabaseAdmin {self._core.location}>"


def _fields(value: Any) -> tuple[Any, ...]:
    return (value.schema_name, value.username, value.password)
