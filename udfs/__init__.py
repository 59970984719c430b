"""What runs inside a Flink task: plain Python over Arrow and NumPy."""
