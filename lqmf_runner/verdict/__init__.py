"""Which model to run: ranking, differences beyond noise, and the verdict in words."""
