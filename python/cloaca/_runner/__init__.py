"""The runner: its settings, start, methods and shutdown, and the administration of tenants."""
