"""From a valid request to its response: the frame that routes share, the generation, the events of a stream."""
