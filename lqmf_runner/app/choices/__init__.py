"""What the choices of config groups may be beside names of YAML files: models and prompts by a path, hub ids."""
