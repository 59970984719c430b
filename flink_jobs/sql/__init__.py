"""The tables and views of the jobs, one file per stream; `ddl` has the shared pieces."""
