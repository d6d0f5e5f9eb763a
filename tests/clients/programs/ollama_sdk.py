"""Talks to the server at argv[1] with Ollama's Python package and prints what it got as JSON."""

import asyncio
import json
import sys

import ollama

HOST = sys.argv[1]
ASK = [{"role": "user", "content": "Hi"}]
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def weather(city: str) -> str:
    """The weather.

    Args:
        city: its name
    """
    return f"sunny in {city}"


def failed(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except ollama.ResponseError as error:
        return [error.status_code, error.error]
    return None


async def streamed():
    parts = await ollama.AsyncClient(HOST).chat("m", ASK, stream=True)
    return "".join([part.message.content async for part in parts])


def with_tool(client):
    first = client.chat("m", ASK, tools=[weather])
    (call,) = first.message.tool_calls
    result = weather(**call.function.arguments)
    turns = [*ASK, first.message, {"role": "tool", "tool_name": call.function.name, "content": result}]
    return [call.function.name, result, client.chat("m", turns, tools=[weather]).message.content]


def main():
    client = ollama.Client(HOST)
    whole = client.chat("m", ASK, options={"num_predict": 20, "num_ctx": 8192, "temperature": 0})
    pieces = list(client.generate("m:latest", "Hi", stream=True))
    got = {
        "models": [model.model for model in client.list().models],
        "shown": client.show("m").details.family,
        "chat": whole.message.content,
        "figures": [whole.done_reason, whole.prompt_eval_count, whole.eval_count, whole.total_duration > 0],
        "stream": asyncio.run(streamed()),
        "generate": ["".join(piece.response for piece in pieces), pieces[-1].done, pieces[-1].eval_count],
        "tools": with_tool(client),
        "json": json.loads(client.chat("m", ASK, format=CITY).message.content),
        "loaded": [model.model for model in client.ps().models],
        "unload": client.generate("m", keep_alive=0).done_reason,
        "pull": client.pull("m").status,
        "missing": failed(client.chat, "nope", ASK)[0],
        "images": failed(client.chat, "m", [{**ASK[0], "images": [b"png"]}]),
        "option": failed(client.chat, "m", ASK, options={"mirostat": 2}),
        "delete": failed(client.delete, "m")[0],
        "create": failed(client.create, "n", from_="m")[0],
    }
    print(json.dumps(got))


main()
