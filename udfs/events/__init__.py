"""Turns events of Kafka records and of files into columns."""
