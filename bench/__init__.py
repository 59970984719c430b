"""Measurements beside others' tools: `python -m bench`."""
