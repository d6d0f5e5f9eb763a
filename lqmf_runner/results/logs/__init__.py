"""What is on disk while a run goes on: requests, grades, and the machine's use, a line each."""
