"""Rankers."""
