"""Requests that run as they stand: the examples of /openapi.json and of /docs."""

from __future__ import annotations

from typing import Any

MODEL = "name-of-a-model"  # where they are shown, a model of the server stands in its place
SESSION = "docs"

Examples = dict[str, Any]

_QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
_CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 40}, "population": {"type": "integer"}},
    "required": ["city", "population"],
    "additionalProperties": False,
}
_CHAT: Examples = {
    "An answer": {"model": MODEL, "messages": _QUESTION, "max_tokens": 64, "temperature": 0},
    "A stream": {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "You are a poet."},
            {"role": "user", "content": "Write two lines about the sea."},
        ],
        "max_tokens": 64,
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    },
    "JSON that matches a schema": {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Name a large city, as JSON."}],
        "max_tokens": 100,
        "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": _CITY}},
    },
    "Log-probabilities": {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Is water wet? Answer yes or no."}],
        "max_tokens": 2,
        "logprobs": True,
        "top_logprobs": 3,
    },
}
_COMPLETIONS: Examples = {
    "Go on with a text": {"model": MODEL, "prompt": "Once upon a time", "max_tokens": 32},
    "A stream": {
        "model": MODEL,
        "prompt": "def fibonacci(n):",
        "max_tokens": 64,
        "stop": "\n\n",
        "stream": True,
    },
    "Score a text": {
        "model": MODEL,
        "prompt": "The sky is blue",
        "max_tokens": 0,
        "echo": True,
        "logprobs": 1,
    },
}
_TICKET = "I was charged twice this month and nobody answers my mails. Please pay me back today."
_SYSTEM_ONE: Examples = {
    "A choice, a score, yes or no": {
        "model": MODEL,
        "state": _TICKET,
        "questions": {
            "team": {
                "type": "choice",
                "instructions": "Which team?",
                "criteria": {"billing": "payments", "sales": None},
            },
            "tone": {
                "type": "score",
                "instructions": "How upset?",
                "criteria": ["calm", "annoyed", "furious"],
            },
            "urgent": {"type": "noul", "instructions": "Is an answer needed today?"},
        },
    }
}
_DECISIONS: Examples = {
    "As OpenAI has them": {
        "model": MODEL,
        "input": _TICKET,
        "questions": [
            {"type": "predicate", "instructions": "The customer needs an answer today."},
            {
                "type": "choice",
                "instructions": "Which team?",
                "choices": [{"value": "billing"}, {"value": "sales"}],
            },
        ],
    },
    "As SGLang has them": {
        "model": MODEL,
        "input": _TICKET,
        "questions": [
            {"id": "urgent", "type": "yes_no", "question": "Is an answer needed today?"},
            {
                "id": "tone",
                "type": "score",
                "question": "How upset?",
                "levels": ["calm", "annoyed", "furious"],
            },
        ],
    },
}
_NATIVE: Examples = {
    "A message": {"message": "What is the capital of France?", "max_tokens": 64, "temperature": 0},
    "A stream, and a conversation that is kept": {
        "message": "My name is Ada. What is a good name for a cat?",
        "system": "You answer in one sentence.",
        "max_tokens": 64,
        "session_id": SESSION,
        "stream": True,
    },
}

BODIES: dict[str, Examples] = {
    "/v1/chat/completions": _CHAT,
    "/v1/completions": _COMPLETIONS,
    "/v1/embeddings": {"Two texts": {"model": MODEL, "input": ["A cat sleeps.", "A dog barks."]}},
    "/v1/systemone": _SYSTEM_ONE,
    "/v1/decisions": _DECISIONS,
    "/tokenize": {"A text": {"model": MODEL, "prompt": "Hello, world"}},
    "/detokenize": {"Token ids": {"model": MODEL, "tokens": [5, 6, 7]}},
    "/models/{name}/chat": _NATIVE,
    "/models/{name}/load": {"Keep it for ten minutes": {"keep_alive": "10m"}},
}
PARAMETERS: dict[str, Any] = {"name": MODEL, "session_id": SESSION}
