"""JSON Schemas of the records on every topic."""
