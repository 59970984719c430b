"""What each `shopstream` command does. Functions return data or text, and print nothing."""
