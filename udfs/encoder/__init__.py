"""BERT: texts in, unit vectors out, each depending on its text alone."""
