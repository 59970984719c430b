"""Events: from Kafka records and files to columns."""
