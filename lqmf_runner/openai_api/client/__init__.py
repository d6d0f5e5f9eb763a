"""The client's direction: bodies to send to an endpoint, and its answers."""
