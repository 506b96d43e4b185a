"""Commands that manage the tenants of a PostgreSQL database."""

from __future__ import annotations

import sys

import click

from cloaca._cli._options import COMMAND_SETTINGS, Database, ListingGroup, database_options
from cloaca._cli._output import note, print_json, print_table, say


@click.group(cls=ListingGroup, context_settings=COMMAND_SETTINGS)
def tenants() -> None:
    """Create, list and remove tenants; `list` if no command is given.

    A tenant is a schema and a role.
    """


@tenants.command("list", context_settings=COMMAND_SETTINGS)
@database_options
def list_command(database: Database, as_json: bool) -> None:
    """List the tenants of a database."""
    from cloaca._runner.database_admin import DatabaseAdmin

    found = DatabaseAdmin(database.url).list_tenants()
    if as_json:
        print_json(
            [{"schema_name": tenant.schema_name, "username": tenant.username} for tenant in found]
        )
        return
    if not found:
        note("there are no tenants: `cloaca tenants create SCHEMA` makes one")
        return
    print_table(
        ("schema", "username"), ([tenant.schema_name, tenant.username or ""] for tenant in found)
    )


@tenants.command(context_settings=COMMAND_SETTINGS)
@click.argument("schema_name", metavar="SCHEMA")
@click.option("--username", metavar="NAME", help="The role's name; the schema's if omitted.")
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the password from stdin instead of generating it.",
)
@database_options
def create(
    database: Database,
    as_json: bool,
    schema_name: str,
    username: str | None,
    password_stdin: bool,
) -> None:
    """Create a tenant: its schema, its role and its tables. If a part fails, nothing is created.

    Prints the tenant's credentials once: the password is not stored.
    """
    from cloaca._runner.database_admin import DatabaseAdmin, TenantConfig

    password = sys.stdin.readline().rstrip("\n") if password_stdin else None
    config = TenantConfig(schema_name, username or schema_name, password)
    made = DatabaseAdmin(database.url).create_tenant(config)
    document = {
        "schema_name": made.schema_name,
        "username": made.username,
        "password": made.password,
        "connection_string": made.connection_string,
    }
    if as_json:
        print_json(document)
        return
    for name, value in document.items():
        say(f"{name}  {value}")


@tenants.command(context_settings=COMMAND_SETTINGS)
@click.argument("schema_name", metavar="SCHEMA")
@click.option("--username", metavar="NAME", help="The role's name; the schema's if omitted.")
@click.option("--force", is_flag=True, help="Remove the tenant even if it is in use.")
@database_options
def remove(
    database: Database, as_json: bool, schema_name: str, username: str | None, force: bool
) -> None:
    """Remove a tenant with all its data and its role."""
    from cloaca._runner.database_admin import DatabaseAdmin

    DatabaseAdmin(database.url).remove_tenant(schema_name, username or schema_name, force=force)
    if as_json:
        print_json({"removed": schema_name})
    else:
        say(f"removed {schema_name}")
