"""Values and texts that every other package uses: exceptions, time spans, JSON, hints."""
