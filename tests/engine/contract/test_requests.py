"""What every runner must do with a request, whatever the architecture: one model of each in a real worker process."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio

from lqmf_runner.engine.local import LocalEngine
from lqmf_runner.errors import InvalidRequestError, LqmfError
from lqmf_runner.types import Completion, Constraint, GenerationRequest, Message, ModelSpec, SamplingParams

from .asking import greedy, run_all

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["gguf", "transformers", "bnb"])
async def engine(request: pytest.FixtureRequest, specs: dict[str, ModelSpec]) -> AsyncIterator[LocalEngine]:
    """A worker with a tiny Llama in each format; four slots, so that requests queue."""
    async with await LocalEngine.start(specs[f"{request.param}-llama"]) as engine:
        yield engine


async def test_the_stream_joins_to_the_whole_answer(engine: LocalEngine) -> None:
    chunks = [chunk async for chunk in engine.generate(greedy("stream"))]
    whole = await engine.complete(greedy("stream"))
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [t for chunk in chunks for t in chunk.token_ids] == list(whole.token_ids)
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].finish_reason == "length"


async def test_the_bytes_of_parts_of_a_character_are_those_of_the_text(engine: LocalEngine) -> None:
    text = "😊漢ﷺ"
    found = b""
    for token in await engine.tokenize(text):
        sampling = SamplingParams(max_tokens=1, temperature=0, logit_bias={token: 100.0}, logprobs=5)
        (told,) = (await engine.complete(GenerationRequest(prompt="a", sampling=sampling))).logprobs
        found += told.text.encode() if told.data is None else told.data
        for (_, part, _), data in zip(told.top, told.top_data, strict=False):
            assert data is None or data != part.encode()
    assert found == text.encode()


async def test_logprobs_are_the_model_s_own_whatever_the_settings(engine: LocalEngine) -> None:
    prompt = await engine.tokenize("logprobs")
    sampling = SamplingParams(
        max_tokens=12,
        temperature=2,
        seed=1,
        repetition_penalty=1.5,
        logit_bias={9: 5.0},
        logprobs=0,
        ignore_eos=True,
    )
    answer = await engine.complete(GenerationRequest(prompt="logprobs", sampling=sampling))
    score = await engine.score([*prompt, *answer.token_ids])
    reported = [entry.logprob for entry in answer.logprobs]
    np.testing.assert_allclose(reported, score.logprobs[len(prompt) :], atol=2e-3)
    assert all(entry.top == () for entry in answer.logprobs)


async def test_a_stop_string_across_tokens_never_shows(engine: LocalEngine) -> None:
    letters = dict.fromkeys(await engine.tokenize("abcdefghijklmnopqrsuvwxyz"), 100.0)
    whole = await engine.complete(greedy("stop here", 40, logit_bias=letters))
    stop = whole.text[10:13]
    chunks = [
        chunk
        async for chunk in engine.generate(greedy("stop here", 40, logit_bias=letters, stop=(stop, "0")))
    ]
    assert "".join(chunk.text for chunk in chunks) == whole.text[: whole.text.index(stop)]
    assert chunks[-1].finish_reason == "stop"


async def test_a_character_is_never_split(engine: LocalEngine) -> None:
    bee = await engine.tokenize("🐝")
    assert len(bee) == 4
    # Each byte may come once, in their order.
    bias = {token: 100.0 - 20 * i for i, token in enumerate(bee)}
    forced = {"logit_bias": bias, "presence_penalty": 100.0}
    chunks = [chunk async for chunk in engine.generate(greedy("x", 4, **forced))]
    assert [token for chunk in chunks for token in chunk.token_ids] == bee
    assert [chunk.text for chunk in chunks] == ["", "", "", "🐝"]
    cut = await engine.complete(greedy("x", 3, **forced))
    assert cut.text == "\ufffd"
    stopped = await engine.complete(greedy("x", 8, stop=("🐝",), **forced))
    assert (stopped.text, stopped.finish_reason) == ("", "stop")
    assert stopped.usage.completion_tokens == 4
    assert await engine.detokenize(bee) == "🐝"
    assert await engine.detokenize(bee[:2]) == "\ufffd"


async def test_text_survives_the_tokenizer(engine: LocalEngine) -> None:
    text = "Grüße, 世界! 🎉 <|im_end|> the\n\ttab"
    tokens = await engine.tokenize(text)
    assert 2 not in tokens, "special tokens in plain text stay text"
    assert await engine.detokenize(tokens) == text
    assert await engine.tokenize("<|im_end|>", special=True) == [2], "in a prompt they are tokens"
    assert await engine.detokenize([]) == ""
    with pytest.raises(InvalidRequestError, match="outside the vocabulary"):
        await engine.detokenize([10**6])


async def test_chat_goes_through_the_template(engine: LocalEngine) -> None:
    sampling = SamplingParams(max_tokens=4, temperature=0, ignore_eos=True)
    chat = GenerationRequest(messages=(Message("user", "hi"),), sampling=sampling)
    plain = GenerationRequest(prompt="<|im_start|>user\nhi<|im_end|>\n", sampling=sampling)
    assert (await engine.complete(chat)).token_ids == (await engine.complete(plain)).token_ids


ANSWER = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Ulm", "Köln"]},
        "rain": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["city", "rain"],
    "additionalProperties": False,
}


CONSTRAINTS = {
    "json_schema": (
        Constraint("json_schema", json.dumps(ANSWER)),
        lambda text: json.loads(text)["rain"] < 100,
    ),
    "regex": (Constraint("regex", "[a-f]{3}-[0-9]{2,5}"), re.compile("[a-f]{3}-[0-9]{2,5}").fullmatch),
    "lark": (Constraint("lark", 'start: ("ho " | "hi ")~2 "end"'), re.compile("(ho |hi ){2}end").fullmatch),
    "choice": (Constraint("choice", '["the one", "the 🐝"]'), ["the one", "the 🐝"].__contains__),
}


def constrained(constraint: Constraint, seed: int, **more: object) -> GenerationRequest:
    sampling = SamplingParams(temperature=1.5, seed=seed, constraint=constraint, **more)  # type: ignore[arg-type]
    return GenerationRequest(prompt="answer: ", sampling=sampling)


@pytest.mark.parametrize("kind", CONSTRAINTS)
async def test_a_constrained_answer_matches_and_ends_by_itself(engine: LocalEngine, kind: str) -> None:
    constraint, matches = CONSTRAINTS[kind]
    no_space = (
        {t: -100.0 for c in " \n\r\t" for t in await engine.tokenize(c)} if kind == "json_schema" else {}
    )
    requests = [
        constrained(constraint, seed, max_tokens=100, logit_bias=no_space, repetition_penalty=1.1)
        for seed in range(4)
    ]
    alone = [await engine.complete(request) for request in requests]
    for answer in alone:
        assert matches(answer.text), answer.text
        assert answer.finish_reason == "stop"
    together = await run_all(engine, [*requests, greedy("beside", 30)])
    assert [answer.token_ids for answer in together[:4]] == [answer.token_ids for answer in alone]


async def test_a_constrained_answer_can_be_cut(engine: LocalEngine) -> None:
    constraint = Constraint("choice", '["abcdefgh"]')
    cut = await engine.complete(constrained(constraint, 0, max_tokens=3))
    assert (cut.text, cut.finish_reason) == ("abc", "length")
    stopped = await engine.complete(constrained(constraint, 0, stop=("ef",)))
    assert (stopped.text, stopped.finish_reason) == ("abcd", "stop")
    whole = await engine.complete(constrained(constraint, 0, max_tokens=8))
    assert (whole.text, whole.finish_reason) == ("abcdefgh", "stop")


async def test_a_constraint_that_explodes_fails_alone(specs: dict[str, ModelSpec]) -> None:
    bombs = [
        Constraint("json_schema", '{"type": "integer", "multipleOf": 1000003}'),
        Constraint("regex", "((a?){1000}){1000}a{1000}"),
        Constraint("lark", "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(9000)) + 'r9000: "a"'),
    ]
    async with await LocalEngine.start(specs["gguf-llama"]) as engine:
        burning = [asyncio.create_task(engine.complete(constrained(bomb, 0))) for bomb in bombs]
        left = engine.generate(constrained(Constraint("regex", "never read"), 0))
        leaving = asyncio.create_task(anext(left))
        await engine.complete(greedy("beside", 2))
        assert not burning[0].done(), "others are answered while it is being tried"
        leaving.cancel()
        for task in burning:
            with pytest.raises(InvalidRequestError):
                await task
        assert (await engine.complete(greedy("after", 2))).usage.completion_tokens == 2
        assert (await engine.stats()).running == 0


async def test_a_language_model_does_not_pass_for_an_embedding_model(engine: LocalEngine) -> None:
    assert not engine.info.embeddings
    with pytest.raises(InvalidRequestError, match="does not give embeddings"):
        await engine.embed(["a"])


async def test_tools_and_options_reach_the_template(engine: LocalEngine) -> None:
    assert engine.info.tools
    sampling = SamplingParams(max_tokens=4, temperature=0, ignore_eos=True)
    messages = (Message("user", "hi"),)
    chat = GenerationRequest(
        messages=messages, sampling=sampling, tools=({"name": "f"},), template_options={"opening": "so "}
    )
    plain = GenerationRequest(prompt='so [{"name": "f"}]<|im_start|>user\nhi<|im_end|>\n', sampling=sampling)
    assert (await engine.complete(chat)).token_ids == (await engine.complete(plain)).token_ids


async def test_an_answer_without_a_limit_ends_with_the_context(engine: LocalEngine) -> None:
    sampling = SamplingParams(max_tokens=None, temperature=0, ignore_eos=True)
    answer = await engine.complete(GenerationRequest(prompt="on and on", sampling=sampling))
    assert answer.finish_reason == "length"
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens == engine.info.n_ctx


async def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(engine: LocalEngine) -> None:
    with pytest.raises(InvalidRequestError, match=r"300 tokens.*256"):
        await engine.complete(
            GenerationRequest(prompt_tokens=(5,) * 300, sampling=SamplingParams(max_tokens=1))
        )


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(),
        GenerationRequest(prompt="a", messages=(Message("user", "b"),)),
        GenerationRequest(prompt=""),
        GenerationRequest(prompt_tokens=(10**6,)),
        GenerationRequest(prompt_tokens=(-1,)),
        GenerationRequest(messages=(Message("wizard", "b"),)),
        GenerationRequest(messages=(Message("user", "b"),), template_options={"messages": []}),
        GenerationRequest(prompt="a", tools=({"name": "f"},)),
        GenerationRequest(prompt="a", sampling=SamplingParams(constraint=Constraint("regex", "("))),
        GenerationRequest(
            prompt="a", sampling=SamplingParams(constraint=Constraint("json_object"), ignore_eos=True)
        ),
        GenerationRequest(prompt="a", sampling=SamplingParams(temperature=float("nan"))),
        GenerationRequest(prompt="a", sampling=SamplingParams(temperature=-1)),
        GenerationRequest(prompt="a", sampling=SamplingParams(top_p=1.5)),
        GenerationRequest(prompt="a", sampling=SamplingParams(max_tokens=0)),
        GenerationRequest(prompt="a", sampling=SamplingParams(logprobs=21)),
        GenerationRequest(prompt="a", sampling=SamplingParams(logit_bias={10**6: 1.0})),
        GenerationRequest(prompt="a", sampling=SamplingParams(logit_bias={5: 101.0})),
    ],
)
async def test_a_bad_request_is_refused_and_the_engine_goes_on(
    engine: LocalEngine, request_: GenerationRequest
) -> None:
    with pytest.raises(InvalidRequestError):
        await engine.complete(request_)
    assert (await engine.complete(greedy("ok", 2))).usage.completion_tokens == 2


async def test_a_reader_that_leaves_frees_its_slot(engine: LocalEngine) -> None:
    endless = [engine.generate(greedy(f"endless {i}", 10_000)) for i in range(4)]
    for stream in endless:
        await anext(stream)
    waiting = asyncio.create_task(engine.complete(greedy("next", 2)))
    for stream in endless:
        await stream.aclose()
    answer = await waiting
    assert answer.usage.completion_tokens == 2
    assert (await engine.stats()).running == 0


async def test_a_full_queue_is_said_so(specs: dict[str, ModelSpec]) -> None:
    spec = specs["gguf-llama"]
    options = spec.options | {"max_slots": 1, "max_queue": 1}
    async with await LocalEngine.start(
        ModelSpec(name="t", format="gguf", path=spec.path, options=options)
    ) as engine:
        burst = [engine.complete(greedy(f"more {i}", 200)) for i in range(40)]
        results = await asyncio.gather(*burst, return_exceptions=True)
        refused = [r for r in results if isinstance(r, LqmfError) and r.status == 429]
        answered = [r for r in results if isinstance(r, Completion)]
        assert refused
        assert len(answered) >= 2
        assert len(refused) + len(answered) == 40
