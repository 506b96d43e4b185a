"""Workflows: the builder, the decorators that add tasks, and the registry of a process."""
