"""The whole shop on one machine, seen working."""
