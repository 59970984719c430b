"""The Flink jobs, one file each; run as scripts."""
