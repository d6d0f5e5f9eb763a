"""`RemoteEngine`: any OpenAI-compatible endpoint as an `EngineClient`.

What an endpoint does not tell stays zero (memory, engine-side timing). Token ids are not part of the API, so chunks
carry text only and the counts come from the endpoint's `usage`.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx

from ..errors import InvalidRequestError, QueueFullError, RemoteEngineError, UserInputError
from ..types import (
    Chunk,
    EngineStats,
    GenerationRequest,
    MemoryUse,
    Message,
    ModelInfo,
    ModelSpec,
    SamplingParams,
    Score,
    TokenLogprob,
    Usage,
)
from .client import EngineClient

_MAX_ERROR_TEXT = 300
_EXTENSIONS = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "ignore_eos": False}


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

        Raises:
            RemoteEngineError: it cannot be reached, or answers with something else than a list of models.
            UserInputError: the model is not there, or there are several and none was named.
        """
        options = spec.options
        base_url = str(options["base_url"]).rstrip("/")
        key = os.environ.get(options.get("api_key_env") or "", "")
        client = httpx.AsyncClient(
            base_url=base_url,
            timeout=httpx.Timeout(options.get("timeout_s", 120.0), connect=5.0),
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=None),
        )
        began = time.perf_counter()
        try:
            listing = (await _checked(client.get("/models"), base_url)).json()
            names = [entry["id"] for entry in listing["data"]]
            model = _choose(names, options.get("remote_model"), base_url)
        except (ValueError, KeyError, TypeError):
            await client.aclose()
            raise RemoteEngineError(
                f"{base_url}/models did not answer with a list of models",
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
                        _collect_calls(calls, choice)
                        if reason := choice.get("finish_reason"):
                            finish_reason, ended = reason, True
                        if text:
                            last = time.perf_counter()
                            first = first or last
                            n_content += 1
                            yield Chunk(text=text, logprobs=_logprobs(choice))
        except httpx.HTTPError as error:
            raise RemoteEngineError(
                f"the endpoint broke off: {type(error).__name__}", hint="is it still running?"
            ) from error
        if not ended:
            raise RemoteEngineError(
                "the endpoint broke off in the middle of an answer", hint="is it still running?"
            )
        if calls:
            yield Chunk(text=_calls_text(calls))
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

    async def score(self, tokens: Sequence[int] | str) -> Score:
        prompt = tokens if isinstance(tokens, str) else list(tokens)
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": 1,
            "echo": True,
            "logprobs": 1,
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
            None if v is None or not top else math.isclose(v, max(top.values()))
            for v, top in zip(values, best, strict=False)
        ]
        return Score(token_ids=tuple(ids), logprobs=tuple(values), greedy=tuple(greedy))

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
        body |= _sampling_body(request.sampling)
        n_top = request.sampling.logprobs
        if request.messages is not None:
            if n_top is not None:
                body |= {"logprobs": True, "top_logprobs": n_top}
            body["messages"] = [_message_body(message) for message in request.messages]
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
        """The first of the named fields that the answer has."""
        response = await _checked(self._client.post(path, json=body), str(self._client.base_url))
        try:
            answer = response.json()
            return next(answer[name] for name in names if name in answer)
        except (ValueError, TypeError, StopIteration):
            raise RemoteEngineError(f"the endpoint's answer to {path} has no '{names[0]}'") from None


def _message_body(message: Message) -> dict[str, Any]:
    """A message as OpenAI's API takes it: the arguments of a tool call are JSON text there."""
    body: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name is not None:
        body["name"] = message.name
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        body["tool_calls"] = [_tool_call_body(call) for call in message.tool_calls]
    return body


def _tool_call_body(call: dict[str, Any]) -> dict[str, Any]:
    function = dict(call.get("function") or {})
    if not isinstance(function.get("arguments"), str):
        function["arguments"] = json.dumps(function.get("arguments") or {}, ensure_ascii=False)
    return call | {"function": function}


def _collect_calls(calls: dict[int, dict[str, str]], choice: dict[str, Any]) -> None:
    """Add what this event tells of tool calls; their names and arguments arrive in pieces."""
    for piece in (choice.get("delta") or {}).get("tool_calls") or ():
        call = calls.setdefault(piece.get("index", 0), {"name": "", "arguments": ""})
        for part in call:
            call[part] += (piece.get("function") or {}).get(part) or ""


def _calls_text(calls: dict[int, dict[str, str]]) -> str:
    """Tool calls that the endpoint has already cut out of the answer, as the text that most models write them in."""
    return "".join(
        f'<tool_call>\n{{"name": {json.dumps(call["name"])}, "arguments": {call["arguments"] or "{}"}}}\n</tool_call>'
        for _, call in sorted(calls.items())
    )


def _sampling_body(params: SamplingParams) -> dict[str, Any]:
    """OpenAI's fields always, the extensions of vLLM and llama-server only where they are set."""
    body: dict[str, Any] = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
    }
    if params.max_tokens is not None:
        body["max_tokens"] = params.max_tokens
    if params.seed is not None:
        body["seed"] = params.seed
    if params.stop:
        body["stop"] = list(params.stop)
    if params.logit_bias:
        body["logit_bias"] = {str(token): bias for token, bias in params.logit_bias.items()}
    for name, default in _EXTENSIONS.items():
        if (value := getattr(params, name)) != default:
            body[name] = value
    return body


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
        event: dict[str, Any] = json.loads(data)
    except ValueError:
        raise RemoteEngineError("the endpoint sent an event that is not JSON") from None
    if not isinstance(event, dict):
        raise RemoteEngineError("the endpoint sent an event that is not an object")
    if error := event.get("error"):
        raise RemoteEngineError(f"the endpoint failed in mid-stream: {_message(error)}")
    return event


def _logprobs(choice: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    content = (choice.get("logprobs") or {}).get("content") or ()
    return tuple(
        TokenLogprob(
            token_id=-1,
            text=entry.get("token", ""),
            logprob=entry["logprob"],
            top=tuple((-1, top.get("token", ""), top["logprob"]) for top in entry.get("top_logprobs") or ()),
        )
        for entry in content
    )


def _choose(names: list[str], wanted: str | None, base_url: str) -> str:
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is not None and wanted in names:
        return wanted
    listed = ", ".join(names[:10]) or "none"
    what = f"has no model '{wanted}'" if wanted else f"has {len(names)} models"
    raise UserInputError(f"{base_url} {what}", hint=f"choose with backend.remote_model=; it has: {listed}")


async def _checked(call: Any, base_url: str) -> httpx.Response:
    try:
        response: httpx.Response = await call
    except httpx.HTTPError as error:
        raise RemoteEngineError(
            f"cannot reach {base_url}: {type(error).__name__}",
            hint="start the server, or correct backend.base_url",
        ) from error
    if response.status_code >= 400:
        raise _error(response)
    return response


def _error(response: httpx.Response) -> Exception:
    try:
        text = _message(response.json().get("error") or response.json())
    except (ValueError, AttributeError):
        text = response.text[:_MAX_ERROR_TEXT]
    if response.status_code == 429:
        return QueueFullError(f"the endpoint is busy: {text}", hint="try again in a few seconds")
    if response.status_code in (401, 403):
        return UserInputError(
            f"the endpoint refused the key: {text}", hint="set the variable that backend.api_key_env names"
        )
    if response.status_code in (400, 413, 422):
        return InvalidRequestError(f"the endpoint refused the request: {text}")
    return RemoteEngineError(f"the endpoint answered {response.status_code}: {text}")


def _message(error: Any) -> str:
    text = error.get("message", error) if isinstance(error, dict) else error
    return str(text)[:_MAX_ERROR_TEXT]
