"""`python -m bench quality`: our ranker and the published baselines of session-based recommendation."""
