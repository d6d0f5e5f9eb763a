"""The modes that start, list and end servers, and keep the keys of their clients."""
