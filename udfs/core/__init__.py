"""Arrays, exact sums, time, hashes, locks and errors."""
