"""OpenAI's Responses API: a body and its items to a generation request, and answers to items, whole or as events."""
