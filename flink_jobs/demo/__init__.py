"""`shopstream demo`: the whole shop on one machine."""
