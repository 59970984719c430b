"""What each command does; returns data and prints nothing."""
