"""Retry policies: conditions, backoff, and the options that make a policy."""
