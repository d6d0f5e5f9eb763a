"""OpenAI's agents SDK over the Responses API. Its argument is the base URL; prints what it got, as JSON."""

import asyncio
import json
import sys
from importlib.metadata import version
from typing import Any

import pydantic
from agents import Agent, OpenAIResponsesModel, Runner, SQLiteSession, function_tool, set_tracing_disabled
from openai import AsyncOpenAI

set_tracing_disabled(True)
asked: list[str] = []


class City(pydantic.BaseModel):
    city: str


@function_tool
def weather(city: str) -> str:
    """The weather in a city."""
    asked.append(city)
    return "sunny"


async def main() -> dict[str, Any]:
    client = AsyncOpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
    model = OpenAIResponsesModel(model="m", openai_client=client)
    agent = Agent(name="a", instructions="You help.", model=model, tools=[weather])
    got: dict[str, Any] = {"version": version("openai-agents")}
    got["run"] = (await Runner.run(agent, "hi")).final_output
    streamed = Runner.run_streamed(agent, "hi")
    kinds = [event.type async for event in streamed.stream_events()]
    got["streamed"] = [streamed.final_output, "run_item_stream_event" in kinds]
    got["asked"] = asked
    first = await Runner.run(agent, "hi", auto_previous_response_id=True)
    got["goes_on"] = (
        await Runner.run(agent, "and now?", previous_response_id=first.last_response_id)
    ).final_output
    session = SQLiteSession("s")
    await Runner.run(agent, "hi", session=session)
    got["session"] = (await Runner.run(agent, "again", session=session)).final_output
    typed = Agent(name="b", model=model, output_type=City)
    got["typed"] = (await Runner.run(typed, "a city")).final_output.city
    inner = Agent(name="inner", handoff_description="Knows weather.", model=model)
    outer = Agent(name="outer", model=model, handoffs=[inner])
    handed = await Runner.run(outer, "hi")
    got["handoff"] = [handed.last_agent.name, handed.final_output]
    return got


print(json.dumps(asyncio.run(main())))
