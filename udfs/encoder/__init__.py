"""BERT: turns texts into unit vectors, each of which depends on its text alone."""
