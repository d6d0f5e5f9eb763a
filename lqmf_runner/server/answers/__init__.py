"""From a request body to an answer: parsing, generation, and the events of a stream."""
