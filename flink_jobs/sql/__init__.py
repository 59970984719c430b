"""All tables and views of the jobs."""
