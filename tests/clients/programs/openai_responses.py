"""OpenAI's SDK and its Responses API. Its argument is the base URL; prints what it got, as JSON."""

import json
import sys
from typing import Any

import openai
import pydantic


class City(pydantic.BaseModel):
    city: str


TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}

# Strict: each object that the SDK reads is checked against its declared type.
client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0, _strict_response_validation=True)
got: dict[str, Any] = {"version": openai.__version__}

whole = client.responses.create(model="m", input="hi", instructions="Be brief.", metadata={"a": "b"})
got["text"] = [whole.output_text, whole.status, whole.usage.output_tokens if whole.usage else None]

with client.responses.stream(model="m", input="hi") as events:
    got["events"] = [event.type for event in events]
    got["stream"] = events.get_final_response().output_text

parsed = client.responses.parse(model="m", input="a city", text_format=City)
got["parsed"] = parsed.output_parsed.city if parsed.output_parsed else None

with client.responses.stream(model="m", input="hi", tools=[TOOL]) as events:
    kinds = [event.type for event in events]
    turn = events.get_final_response()
got["call_events"] = [kind for kind in kinds if "function_call" in kind or "output_item" in kind]
(call,) = [item for item in turn.output if item.type == "function_call"]
got["call"] = [call.name, json.loads(call.arguments)]
result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
# The conversation as agents send it whole, and as those do that let the server keep it.
history: Any = [{"role": "user", "content": "hi"}, *(item.model_dump() for item in turn.output), result]
got["sent"] = client.responses.create(model="m", input=history, tools=[TOOL], store=False).output_text
goes_on = client.responses.create(model="m", input=[result], tools=[TOOL], previous_response_id=turn.id)
got["kept"] = goes_on.output_text

got["retrieved"] = client.responses.retrieve(goes_on.id).output_text
got["items"] = [item.type for item in client.responses.input_items.list(goes_on.id, order="asc")]
client.responses.delete(goes_on.id)
for asked in ("retrieve", "cancel"):
    try:
        getattr(client.responses, asked)(goes_on.id)
    except openai.NotFoundError as error:
        got[asked] = error.status_code
try:
    client.responses.create(model="m", input="hi", previous_response_id=goes_on.id)
except openai.BadRequestError as error:
    got["gone"] = [error.param, error.code]
try:
    client.responses.create(model="m", input="hi", tools=[{"type": "web_search"}])
except openai.BadRequestError as error:
    got["tool"] = [error.param, "web_search" in error.message]
print(json.dumps(got))
