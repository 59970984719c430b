"""`python -m bench encode`: our encoder and its peers on the CPU."""
