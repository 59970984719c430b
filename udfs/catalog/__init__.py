"""The catalog: items, their vectors and their changes."""
