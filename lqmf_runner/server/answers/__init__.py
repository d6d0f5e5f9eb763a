"""From a request body to an answer: parsing, generation, sessions, errors."""
