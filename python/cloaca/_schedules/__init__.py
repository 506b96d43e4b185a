"""Schedules: cron expressions, triggers, and the methods of a runner for both."""
