"""OpenAI's SDK: chat, stream, tools, JSON, errors. Its argument is the base URL; prints what it got, as JSON."""

import json
import sys
from typing import Any

import openai

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {"name": "city", "schema": {"type": "object", "properties": {"city": {"type": "string"}}}},
}

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
messages: list[Any] = [{"role": "user", "content": "hi"}]
asked: Any = {"model": "m", "messages": messages}
got: dict[str, Any] = {"version": openai.__version__}

got["chat"] = client.chat.completions.create(**asked).choices[0].message.content
chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
got["stream"] = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
got["usage"] = chunks[-1].usage.completion_tokens

with client.chat.completions.stream(**asked, tools=[TOOL]) as events:
    for _ in events:
        pass
    turn = events.get_final_completion().choices[0].message
(call,) = turn.tool_calls or []
got["tools"] = [call.function.name, json.loads(call.function.arguments)]
result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
messages += [turn.model_dump(), result]  # the whole turn, nulls and all, as agents store it
got["after_tools"] = client.chat.completions.create(**asked, tools=[TOOL]).choices[0].message.content

parsed = client.chat.completions.create(**asked, response_format=SCHEMA)
got["json"] = json.loads(parsed.choices[0].message.content or "")
try:
    client.chat.completions.create(**asked | {"model": "nope"})
except openai.NotFoundError as error:
    got["error"] = [error.status_code, error.code]
try:
    client.chat.completions.create(**asked, temperature=3)
except openai.BadRequestError as error:
    got["param"] = error.param
print(json.dumps(got))
