"""Candidate generation: several sources propose items and compute ranking features.

Every module here is searched for sources: see udfs.candidates.source.
"""
