"""What Shopstream runs on: for a laptop, a real broker and a real cluster."""
