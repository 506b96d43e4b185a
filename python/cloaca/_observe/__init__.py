"""What programs and people watch: log records, traces, metrics and progress bars."""
