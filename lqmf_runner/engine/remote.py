"""`RemoteEngine`: any OpenAI-compatible endpoint as an `EngineClient`.

What an endpoint does not tell stays zero (memory, engine-side timing). Token ids are not part of the API, so chunks
carry text only and the counts come from the endpoint's `usage`.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx
import msgspec

from ..errors import (
    EndpointSetupError,
    EndpointUnavailableError,
    InvalidRequestError,
    LqmfError,
    RemoteEngineError,
    TooManyRequestsError,
)
from ..openai_api.client import (
    collect_tool_calls,
    message_body,
    most_likely,
    read_json,
    read_key,
    read_logprobs,
    retry_after_s,
    sampling_body,
    tool_calls_text,
)
from ..redaction import redact_text
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
    Usage,
)
from .client import EngineClient
from .options import log_sum

_MAX_ERROR_TEXT = 300
MAX_LOGPROBS = 20  # OpenAI's own limit of top_logprobs


class RemoteEngine(EngineClient):
    """Talks to one model of one endpoint. Make it with `RemoteEngine.connect`."""

    def __init__(self, client: httpx.AsyncClient, info: ModelInfo, model: str) -> None:
        self._client = client
        self._model = model
        self._stats = EngineStats()
        self.info = info

    @classmethod
    async def connect(cls, spec: ModelSpec) -> RemoteEngine:
        """Ask the endpoint which models it has and choose `remote_model`, or the only one.

        An endpoint that keeps no list is believed to have the model that was named.

        Raises:
            RemoteEngineError: it cannot be reached, or answers with something else than a list of models.
            EndpointSetupError: the model is not there, or there are several and none was named.
        """
        options = spec.options
        base_url = str(options["base_url"]).rstrip("/")
        shown = redact_text(base_url)  # errors are kept in results and logs
        key = read_key(options.get("api_key_env") or "")
        client = httpx.AsyncClient(
            base_url=base_url,
            timeout=httpx.Timeout(options.get("timeout_s", 120.0), connect=5.0),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=None),
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
            format="openai",
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
            load_time_s=time.perf_counter() - began,
        )
        return cls(client, info, model)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Chunk, None]:
        path, body = self._body(request)
        finish_reason, usage, n_content, ended = "stop", None, 0, False
        calls: dict[int, dict[str, str]] = {}
        sent = time.perf_counter()
        first = last = 0.0
        self._stats.requests += 1
        try:
            async with self._client.stream("POST", path, json=body) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise _error(response)
                async for line in _lines(response):
                    ended = ended or _data(line) == "[DONE]"
                    event = _event(line)
                    if event is None:
                        continue
                    if counts := event.get("usage"):
                        usage = counts
                    for choice in event.get("choices") or ():
                        text = (choice.get("delta") or {}).get("content") or choice.get("text") or ""
                        collect_tool_calls(calls, choice)
                        if reason := choice.get("finish_reason"):
                            finish_reason, ended = reason, True
                        logprobs = read_logprobs(choice)
                        if text:
                            last = time.perf_counter()
                            first = first or last
                            n_content += 1
                        if text or logprobs:
                            yield Chunk(text=text, logprobs=logprobs)
        except httpx.HTTPError as error:
            raise RemoteEngineError(
                f"the endpoint broke off: {type(error).__name__}", hint="is it still running?"
            ) from error
        if not ended:
            raise RemoteEngineError(
                "the endpoint broke off in the middle of an answer", hint="is it still running?"
            )
        if calls:
            yield Chunk(text=tool_calls_text(calls))
        counts = usage or {}
        completed = counts.get("completion_tokens", n_content)
        self._stats.completion_tokens += completed
        self._stats.prompt_tokens += counts.get("prompt_tokens", 0)
        yield Chunk(
            finish_reason=finish_reason,
            usage=Usage(
                prompt_tokens=counts.get("prompt_tokens", 0),
                cached_tokens=(counts.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
                completion_tokens=completed,
                prefill_s=max(first - sent, 0.0) if first else 0.0,
                decode_s=last - first,
            ),
        )

    async def score(self, tokens: Sequence[int] | str, *, top: int = 0) -> Score:
        prompt = tokens if isinstance(tokens, str) else list(tokens)
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": 1,
            "echo": True,
            "logprobs": max(top, 1),
            "temperature": 0,
        }
        answer = (await self._post("/completions", body, "choices"))[0].get("logprobs")
        if not answer or len(answer.get("token_logprobs") or ()) < 2:
            raise RemoteEngineError(
                "the endpoint does not echo log-probabilities of the prompt", hint="vLLM does"
            )
        ids = await self.tokenize(tokens) if isinstance(tokens, str) else list(tokens)
        values = answer["token_logprobs"][: len(ids)]
        best = answer.get("top_logprobs") or [None] * len(values)
        greedy = [
            None if v is None or not row else math.isclose(v, max(row.values()))
            for v, row in zip(values, best, strict=False)
        ]
        alternatives = tuple(most_likely(row or {}, top) for row in best[: len(ids)]) if top else ()
        return Score(token_ids=tuple(ids), logprobs=tuple(values), greedy=tuple(greedy), top=alternatives)

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
        inputs = [text if isinstance(text, str) else list(text) for text in texts]
        answer = await self._post("/embeddings", {"model": self._model, "input": inputs})
        try:
            vectors = [row["embedding"] for row in sorted(answer["data"], key=lambda row: row["index"])]
            counted = (answer.get("usage") or {}).get("prompt_tokens")
            return msgspec.convert({"vectors": vectors, "prompt_tokens": counted}, Embeddings)
        except (KeyError, TypeError, AttributeError, msgspec.ValidationError):
            raise RemoteEngineError("the endpoint did not answer with embeddings") from None

    async def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        body = {
            "model": self._model,
            "prompt": text,
            "content": text,
            "add_special_tokens": special,
            "add_special": special,
        }
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
        """vLLM, SGLang and llama-server keep these routes beside `/v1`, not under it."""
        return str(self._client.base_url).rstrip("/").removesuffix("/v1") + path

    def _body(self, request: GenerationRequest) -> tuple[str, dict[str, Any]]:
        body = {"model": self._model, "stream": True, "stream_options": {"include_usage": True}}
        body |= sampling_body(request.sampling)
        n_top = request.sampling.logprobs
        if request.messages is not None:
            if n_top is not None:
                body |= {"logprobs": True, "top_logprobs": n_top}
            body["messages"] = [message_body(message) for message in request.messages]
            if request.tools:
                body["tools"] = list(request.tools)
            if request.template_options:
                body["chat_template_kwargs"] = request.template_options
            return "/chat/completions", body
        prompt = request.prompt if request.prompt is not None else list(request.prompt_tokens or ())
        if not prompt:
            raise InvalidRequestError("the prompt is empty", hint="send at least one token")
        if n_top is not None:
            body["logprobs"] = n_top
        return "/completions", body | {"prompt": prompt}

    async def _post(self, path: str, body: dict[str, Any], *names: str) -> Any:
        """The first of the named fields that the answer has; the whole of it where none is named."""
        response = await _checked(self._client.post(path, json=body), redact_text(str(self._client.base_url)))
        try:
            answer = response.json()
            return next(answer[name] for name in names if name in answer) if names else answer
        except (ValueError, TypeError, StopIteration):
            what = f"has no '{names[0]}'" if names else "is not JSON"
            raise RemoteEngineError(f"the endpoint's answer to {path} {what}") from None


async def _lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """Lines end at line feeds only; `aiter_lines` also splits at U+2028 and its like, which JSON may hold."""
    rest = b""
    async for data in response.aiter_bytes():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace")
    yield rest.decode(errors="replace")


def _data(line: str) -> str:
    return line[5:].strip() if line.startswith("data:") else ""


def _event(line: str) -> dict[str, Any] | None:
    """The object of one server-sent event line, or None where there is none."""
    data = _data(line)
    if not data or data == "[DONE]":
        return None
    try:
        event: dict[str, Any] = read_json(data)
    except ValueError:
        raise RemoteEngineError("the endpoint sent an event that is not JSON") from None
    if not isinstance(event, dict):
        raise RemoteEngineError("the endpoint sent an event that is not an object")
    if error := event.get("error"):
        raise RemoteEngineError(f"the endpoint failed in mid-stream: {_message(error)}")
    return event


async def _find_model(client: httpx.AsyncClient, wanted: str | None, base_url: str) -> str:
    response = await _answered(client.get("/models"), base_url)
    if response.status_code >= 400:
        error = _error(response, connecting=True)
        if wanted is not None and isinstance(error, RemoteEngineError):
            return wanted
        raise error
    return _choose([entry["id"] for entry in response.json()["data"]], wanted, base_url)


def _choose(names: list[str], wanted: str | None, base_url: str) -> str:
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is not None and wanted in names:
        return wanted
    listed = ", ".join(names[:10]) or "none"
    what = f"has no model '{wanted}'" if wanted else f"has {len(names)} models"
    raise EndpointSetupError(
        f"{base_url} {what}", hint=f"choose with backend.remote_model=; it has: {listed}"
    )


async def _answered(call: Any, base_url: str) -> httpx.Response:
    try:
        response: httpx.Response = await call
    except httpx.HTTPError as error:
        raise RemoteEngineError(
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
    """What an answer with an error status means, and when to come again if it says so in seconds.

    Once connected, 403 is about the request: gateways answer so to one that they moderate.
    """
    try:
        text = _message(response.json().get("error") or response.json())
    except (ValueError, AttributeError):
        text = response.text[:_MAX_ERROR_TEXT]
    wait = retry_after_s(response.headers.get("retry-after", ""))
    if response.status_code == 429:
        return TooManyRequestsError(
            f"the endpoint is busy: {text}", hint="try again later", retry_after_s=wait
        )
    if response.status_code == 503:
        return EndpointUnavailableError(
            f"the endpoint answered 503: {text}",
            hint="try again later",
            retry_after_s=wait,
        )
    if response.status_code == 401 or (response.status_code == 403 and connecting):
        return EndpointSetupError(
            f"the endpoint refused the key: {text}", hint="set the variable that backend.api_key_env names"
        )
    if response.status_code == 403:
        return InvalidRequestError(
            f"the endpoint refused the request: {text}",
            hint="if it refuses them all, set the variable that backend.api_key_env names",
        )
    if response.status_code in (400, 413, 422):
        return InvalidRequestError(f"the endpoint refused the request: {text}")
    return RemoteEngineError(f"the endpoint answered {response.status_code}: {text}")


def _message(error: Any) -> str:
    text = error.get("message", error) if isinstance(error, dict) else error
    return str(text)[:_MAX_ERROR_TEXT]
