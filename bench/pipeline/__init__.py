"""`python -m bench pipeline`: our job and other stream processors on one real broker."""
