"""What `mode=history` shows: which runs, and their table."""
