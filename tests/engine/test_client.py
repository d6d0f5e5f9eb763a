"""What `EngineClient` derives from `stream`, and what it refuses for an engine that cannot do it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from lqmf_runner.errors import InvalidRequestError, UserInputError
from lqmf_runner.types import Chunk, GenerationRequest, Usage, Window
from tests.support.engine.scripted import ScriptedEngine

REQUEST = GenerationRequest(prompt="a")
CHUNKS = [
    [Chunk(text="a", token_ids=(1,))],
    [Chunk(text="b", token_ids=(2,)), Chunk(finish_reason="length", usage=Usage(completion_tokens=2))],
]


class Streaming(ScriptedEngine):
    """Streams `CHUNKS` and keeps how it was asked and left."""

    def __init__(self) -> None:
        super().__init__(lambda *_: [])
        self.wholes: list[bool] = []
        self.left = 0

    async def stream(
        self, request: GenerationRequest, *, whole: bool = False
    ) -> AsyncGenerator[list[Chunk], None]:
        self.wholes.append(whole)
        try:
            for chunks in CHUNKS:
                yield chunks
        finally:
            self.left += 1


async def test_generate_gives_the_chunks_of_the_stream_one_by_one() -> None:
    engine = Streaming()
    assert [chunk async for chunk in engine.generate(REQUEST)] == [
        chunk for chunks in CHUNKS for chunk in chunks
    ]
    assert engine.wholes == [False]


async def test_closing_generate_closes_the_stream_at_once() -> None:
    engine = Streaming()
    chunks = engine.generate(REQUEST)
    assert (await anext(chunks)).text == "a"
    assert engine.left == 0
    await chunks.aclose()
    assert engine.left == 1


async def test_complete_asks_for_the_whole_and_joins_it() -> None:
    engine = Streaming()
    answer = await engine.complete(REQUEST)
    assert (answer.text, answer.token_ids, answer.finish_reason) == ("ab", (1, 2), "length")
    assert answer.usage.completion_tokens == 2
    assert engine.wholes == [True]


async def test_an_engine_refuses_what_it_does_not_implement() -> None:
    engine = Streaming()
    window = Window(tokens=[1, 2], first=1, index=0, rows="", n_vocab=3, record=False)
    with pytest.raises(UserInputError, match="does not give full next-token distributions"):
        await engine.score_window(window)
    with pytest.raises(InvalidRequestError, match="does not give embeddings"):
        await engine.embed(["a"])
    assert not await engine.reset_prefix_cache()


async def test_leaving_its_context_closes_an_engine() -> None:
    async with Streaming() as engine:
        pass
    assert isinstance(engine, Streaming)
    assert engine.closed
