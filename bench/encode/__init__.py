"""Our encoder and others."""
