"""Our job and other stream processors."""
