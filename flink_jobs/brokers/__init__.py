"""Kafka from outside Flink."""
