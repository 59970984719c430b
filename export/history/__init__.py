"""Past sessions: read once, counted, written for the sources of candidates."""
