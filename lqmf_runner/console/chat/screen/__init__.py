"""The terminal of a chat: answers drawn as they grow, and the line in which a user types."""
