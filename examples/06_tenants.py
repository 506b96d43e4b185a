"""Tutorial 06: two customers in one PostgreSQL database, who cannot see each other."""

import os

import cloaca

CUSTOMERS = ["north", "south"]

with cloaca.WorkflowBuilder("bill"):

    @cloaca.task
    def count(context):
        context["cents"] = sum(context["orders"])

    @cloaca.task(dependencies=[count])
    def write(context):
        context["bill"] = f"{context['cents'] / 100:.2f}"


if __name__ == "__main__":
    # The role in this URL needs permission to create roles, and to create schemas in this database.
    admin_url = os.environ["ADMIN_URL"]
    admin = cloaca.DatabaseAdmin(admin_url)
    # An earlier, interrupted run may have left its tenants in the database.
    for tenant in admin.list_tenants():
        if tenant.schema_name in CUSTOMERS:
            admin.remove_tenant(tenant.schema_name, f"{tenant.schema_name}_app")
    credentials = {
        name: admin.create_tenant(cloaca.TenantConfig(name, f"{name}_app")) for name in CUSTOMERS
    }

    # A customer's own program needs only its credentials.
    with cloaca.DefaultRunner(credentials["north"].connection_string) as runner:
        print("north:", runner.execute("bill", {"orders": [1250, 450]}).final_context["bill"])

    with cloaca.DefaultRunner(credentials["south"].connection_string) as runner:
        print("south sees", len(runner.list_executions().items), "executions")

    # One process serves all customers.
    with cloaca.DefaultRunner(admin_url) as runner:
        for tenant in admin.list_tenants():
            served = runner.tenant(tenant.schema_name)
            result = served.execute("bill", {"orders": [100]}, key="2026-01")
            executions = len(served.list_executions().items)
            print(f"{tenant.schema_name}: {result.status}, {executions} executions")

    for name in CUSTOMERS:
        admin.remove_tenant(name, f"{name}_app")
    print("left:", admin.list_tenants())
