"""Which jobs there are, and how they get onto a cluster."""
