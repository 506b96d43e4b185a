"""Values and texts that all other packages use: exceptions, durations, JSON, hints."""
