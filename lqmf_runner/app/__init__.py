"""The edge to the user and to Hydra: command line, composition, error wording."""
