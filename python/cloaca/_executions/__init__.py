"""Executions: submission, handle, result and history."""
