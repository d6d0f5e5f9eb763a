"""The server as a process: sockets, lifecycle, background, registry."""
