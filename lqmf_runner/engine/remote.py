"""`RemoteEngine`: any OpenAI-compatible endpoint as an `EngineClient`.

Values that an endpoint does not report stay zero (memory, engine-side timing). Token ids are not part of the API, so
chunks carry text only and the counts come from the endpoint's `usage`.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Self

import httpx
import msgspec

from ..errors import EndpointLostError, EndpointSetupError, LqmfError, RemoteEngineError
from ..openai_api.client.answers import (
    StreamReader,
    choose_model,
    echoed_logprobs,
    read_embeddings,
    read_score,
)
from ..openai_api.client.bodies import embeddings_body, generation_body, score_body, tokenize_body
from ..openai_api.client.errors import read_error, read_unfinished
from ..openai_api.client.events import EventParser
from ..redaction import redact_text
from ..tls import trust
from ..types import (
    Chunk,
    Embeddings,
    EngineStats,
    GenerationRequest,
    MemoryUse,
    ModelInfo,
    ModelSpec,
    OptionLogprobs,
    SamplingParams,
    Score,
)
from .client import EngineClient
from .options import log_sum
from .thoughts import ThoughtReader, thought_reader

MAX_LOGPROBS = 20  # OpenAI's own limit of top_logprobs


class RemoteEngine(EngineClient):
    """Talks to one model of one endpoint. Make it with `RemoteEngine.connect`."""

    def __init__(self, client: httpx.AsyncClient, info: ModelInfo, model: str) -> None:
        self._client = client
        self._model = model
        self.place = client.base_url.netloc.decode()
        self._stats = EngineStats()
        self.info = info

    @classmethod
    async def connect(cls, spec: ModelSpec) -> Self:
        """Ask the endpoint which models it has and choose `remote_model`, or the only one.

        An endpoint that keeps no list is believed to have the model that was named.

        Raises:
            RemoteEngineError: it cannot be reached, or answers with something else than a list of models.
            EndpointSetupError: the model is not there, or there are several and none was named.
        """
        return await cls.open(spec, _read_key(spec.options.get("api_key_env") or ""))

    @classmethod
    async def open(cls, spec: ModelSpec, key: str, *, trust_env: bool = True) -> Self:
        """`connect` with this key; none if it is empty. `trust_env`: go through the proxy of the environment."""
        options = spec.options
        base_url = str(options["base_url"]).rstrip("/")
        shown = redact_text(base_url)  # errors are kept in results and logs
        client = httpx.AsyncClient(
            base_url=base_url,
            timeout=httpx.Timeout(options.get("timeout_s", 120.0), connect=5.0),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=None),
            verify=trust(options.get("certfile")),
            trust_env=trust_env,
        )
        began = time.perf_counter()
        try:
            model = await _find_model(client, options.get("remote_model"), shown)
        except (ValueError, KeyError, TypeError):
            await client.aclose()
            raise RemoteEngineError(
                f"{shown}/models did not answer with a list of models",
                hint="is backend.base_url right? It ends in /v1",
            ) from None
        except BaseException:
            await client.aclose()
            raise
        info = ModelInfo(
            name=spec.name,
            format=spec.format,
            method="remote",
            architecture="",
            bits=0,
            bits_per_weight=0,
            parameters=0,
            size_mb=0,
            weight_bytes=0,
            n_ctx=options.get("n_ctx") or 0,
            n_vocab=0,
            max_slots=options.get("max_slots", 16),
            device="remote",
            dtype="",
            chat_template=True,
            tools=True,
            embeddings=True,
            notes=("backend.batch_invariant has no effect on an endpoint",)
            if options.get("batch_invariant")
            else (),
            load_time_s=time.perf_counter() - began,
        )
        return cls(client, info, model)

    @property
    def served(self) -> str:
        """The model's name at the endpoint."""
        return self._model

    async def stream(
        self, request: GenerationRequest, *, whole: bool = False
    ) -> AsyncGenerator[list[Chunk], None]:
        path, body = generation_body(request, self._model)
        reader, parser = StreamReader(), EventParser()
        sent = time.perf_counter()
        first = last = 0.0
        thoughts = self._thought_reader(request)
        self._stats.requests += 1
        try:
            async with self._client.stream("POST", path, json=body) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise _error(response)
                async for data in _events(response, parser):
                    for chunk in reader.read(data):
                        if chunk.text or chunk.reasoning:
                            last = time.perf_counter()
                            first = first or last
                        if chunk.reasoning and thoughts:  # the endpoint separates them itself
                            yield [_divided(Chunk(), thoughts, last=True)]
                            thoughts = None
                        yield [_divided(chunk, thoughts)]
        except httpx.HTTPError as error:
            raise EndpointLostError(
                f"the endpoint broke off: {type(error).__name__}", hint="is it still running?"
            ) from error
        if not reader.ended:
            raise read_unfinished(parser.outside)
        if thoughts:
            yield [_divided(Chunk(), thoughts, last=True)]
        if calls := reader.tool_calls():
            yield [Chunk(text=calls)]
        usage = reader.usage(prefill_s=max(first - sent, 0.0) if first else 0.0, decode_s=last - first)
        self._stats.completion_tokens += usage.completion_tokens
        self._stats.prompt_tokens += usage.prompt_tokens
        yield [Chunk(finish_reason=reader.finish_reason, usage=usage)]

    def _thought_reader(self, request: GenerationRequest) -> ThoughtReader | None:
        """Separates thoughts from the text, if the request asks for it and the endpoint may not do it."""
        return thought_reader(request, thinks=False)

    async def score(self, tokens: Sequence[int] | str, *, top: int = 0) -> Score:
        body = score_body(tokens, self._model, top=top)
        choice = (await self._post("/completions", body, "choices"))[0]
        echoed_logprobs(choice)
        ids = await self.tokenize(tokens) if isinstance(tokens, str) else tokens
        return read_score(choice, ids, top=top)

    async def option_logprobs(
        self, request: GenerationRequest, options: Sequence[Sequence[str]]
    ) -> OptionLogprobs:
        """See `EngineClient.option_logprobs`. Only the endpoint's `MAX_LOGPROBS` most likely tokens are known."""
        sampling = SamplingParams(max_tokens=1, temperature=0, logprobs=MAX_LOGPROBS)
        answer = await self.complete(msgspec.structs.replace(request, sampling=sampling))
        likely = answer.logprobs[0].top if answer.logprobs else ()
        values = tuple(log_sum([v for _, text, v in likely if text in forms]) for forms in options)
        if not likely:
            raise RemoteEngineError(
                "the endpoint does not tell the log-probabilities of its most likely tokens",
                hint="it has to answer `top_logprobs`, as vLLM, SGLang and llama-server do",
            )
        if all(math.isinf(value) for value in values):
            raise RemoteEngineError(
                f"none of the endpoint's {len(likely)} most likely tokens is one of the options",
                hint="ask for fewer or plainer options, or load the model here",
            )
        usage = answer.usage
        return OptionLogprobs(
            logprobs=values, prompt_tokens=usage.prompt_tokens, cached_tokens=usage.cached_tokens
        )

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        return read_embeddings(await self._post("/embeddings", embeddings_body(texts, self._model)))

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        body = tokenize_body(text, self._model, special=special)
        tokens: list[int] = await self._post(self._root("/tokenize"), body, "tokens")
        return tokens

    async def detokenize(self, tokens: Sequence[int]) -> str:
        body = {"model": self._model, "tokens": list(tokens)}
        text: str = await self._post(self._root("/detokenize"), body, "prompt", "content")
        return text

    async def stats(self) -> EngineStats:
        return self._stats

    async def memory(self) -> MemoryUse:
        return MemoryUse()

    async def close(self) -> None:
        await self._client.aclose()

    def _root(self, path: str) -> str:
        """vLLM, SGLang and llama-server have these routes beside `/v1`, not below it."""
        return str(self._client.base_url).rstrip("/").removesuffix("/v1") + path

    async def _post(self, path: str, body: dict[str, Any], *names: str) -> Any:
        """The first of the named fields in the answer; the whole answer if no field is named."""
        response = await _checked(self._client.post(path, json=body), redact_text(str(self._client.base_url)))
        try:
            answer = response.json()
            return next(answer[name] for name in names if name in answer) if names else answer
        except (ValueError, TypeError, StopIteration):
            what = f"has no '{names[0]}'" if names else "is not JSON"
            raise RemoteEngineError(f"the endpoint's answer to {path} {what}") from None


def _divided(chunk: Chunk, thoughts: ThoughtReader | None, *, last: bool = False) -> Chunk:
    if thoughts is None:
        return chunk
    reasoning, text = thoughts.read(chunk.text, last=last)
    return msgspec.structs.replace(chunk, text=text, reasoning=reasoning)


async def _events(response: httpx.Response, parser: EventParser) -> AsyncGenerator[str, None]:
    """The data of each server-sent event."""
    async for data in response.aiter_bytes():
        for event in parser.feed(data):
            yield event
    for event in parser.end():
        yield event


async def _find_model(client: httpx.AsyncClient, wanted: str | None, base_url: str) -> str:
    response = await _answered(client.get("/models"), base_url)
    if response.status_code >= 400:
        error = _error(response, connecting=True)
        if wanted is not None and isinstance(error, RemoteEngineError):
            return wanted
        raise error
    return choose_model(response.json(), wanted, base_url)


async def _answered(call: Any, base_url: str) -> httpx.Response:
    try:
        response: httpx.Response = await call
    except httpx.HTTPError as error:
        raise EndpointLostError(
            f"cannot reach {base_url}: {type(error).__name__}",
            hint="start the server, or correct backend.base_url",
        ) from error
    return response


async def _checked(call: Any, base_url: str) -> httpx.Response:
    response = await _answered(call, base_url)
    if response.status_code >= 400:
        raise _error(response)
    return response


def _error(response: httpx.Response, *, connecting: bool = False) -> LqmfError:
    wait = response.headers.get("retry-after", "")
    return read_error(response.status_code, response.text, retry_after=wait, connecting=connecting)


def _read_key(variable: str) -> str:
    """The key in an environment variable, without what its file may have ended with; empty if there is none."""
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise EndpointSetupError(
            f"the key in {variable} has characters that cannot be sent",
            hint=f"set {variable} to the key alone",
        )
    return key
