"""Pseudonyms, masking, and the events of erased users."""
