"""Kafka from outside Flink: clients, topics, records, security and errors."""
