"""instructor: objects by way of tools and of a JSON schema. Its argument is the base URL; prints them as JSON."""

import json
import sys

import instructor
import openai
from pydantic import BaseModel


class City(BaseModel):
    city: str


client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
got = {}
for mode in ("TOOLS", "JSON", "JSON_SCHEMA"):
    wrapped = instructor.from_openai(client, mode=instructor.Mode[mode])
    answer = wrapped.chat.completions.create(
        model="m", response_model=City, messages=[{"role": "user", "content": "hi"}], max_retries=0
    )
    got[mode] = answer.model_dump()
try:
    wrapped.chat.completions.create(model="nope", response_model=City, messages=[], max_retries=0)
except Exception as error:
    got["error"] = str(error)
print(json.dumps(got))
