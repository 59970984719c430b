"""Jobs: which there are, and how they come onto a cluster."""
