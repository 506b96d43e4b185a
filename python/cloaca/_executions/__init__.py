"""Executions: what a submission takes, the handle, the result and the history."""
