"""What is submitted to Flink, and the command line around it."""
