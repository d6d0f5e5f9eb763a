"""The middlewares around the application: Host and Origin, keys, limits."""
