"""Which model to run: constraints, ranking, differences beyond noise, and the wording of the verdict."""
