"""A task's definition: its options, rules, signature and fingerprint."""
