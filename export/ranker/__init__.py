"""The learned ranker: positions, trees, quality."""
