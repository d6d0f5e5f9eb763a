"""OpenAI's wire format, both directions, without sockets: bodies to requests, answers and stream events to JSON."""
