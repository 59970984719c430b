"""Sessions as columns."""
