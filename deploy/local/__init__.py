"""A Kafka broker and a Flink cluster on this machine, from Python packages and jars alone."""
