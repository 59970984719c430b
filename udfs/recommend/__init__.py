"""Turns a batch of sessions into recommendation records."""
