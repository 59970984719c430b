"""The catalog: items, their vectors and changes."""
