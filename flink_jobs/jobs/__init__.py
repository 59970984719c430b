"""The Flink jobs, one file each, run as scripts. They import neither command line nor laptop tooling."""
