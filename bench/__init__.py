"""Benchmarks of this project alongside other tools: `python -m bench`."""
