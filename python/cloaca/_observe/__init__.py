"""Observability: log records, traces, metrics and progress bars."""
