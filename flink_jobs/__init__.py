"""Shopstream on Flink: the jobs, their SQL and settings, and the command line around them."""
