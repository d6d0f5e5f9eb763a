"""From a valid request to its response: the common part of routes, the generation, the events of a stream."""
