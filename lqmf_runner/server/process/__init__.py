"""The server as a process: its socket, its start and end, and the records by which commands find it."""
