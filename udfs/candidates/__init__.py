"""Candidate generation: several sources propose items and compute ranking features."""
