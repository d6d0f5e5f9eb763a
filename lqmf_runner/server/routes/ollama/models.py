"""What models there are: GET /api/tags, /api/ps and /api/version, POST /api/show.

The routes that would change files are refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from litestar import Request, Response

from ....engine.thoughts import knows_thoughts
from ....errors import FieldError, InvalidRequestError, ModelNotFoundError
from ....models.files.chat_template import chat_template
from ....ollama_api.answers import line
from ....ollama_api.bodies import plain_name, tagged_name
from ....ollama_api.schemas import (
    Details,
    NamedModel,
    Progress,
    PullRequest,
    Running,
    RunningModels,
    Shown,
    Tag,
    Tags,
    Version,
)
from ....types import ModelInfo
from ...pool.catalog import CatalogEntry
from ...pool.pooled_model import READY, PooledModel
from ...route import MODEL, OLLAMA, Body, route
from ...state import ServerState, state_of
from .chat import LINES

OLLAMA_VERSION = "0.13.4"
"""The version of Ollama whose API the routes follow. Clients refuse those that are too old for what they use, as Codex
does those without /v1/responses.
"""
NEVER = datetime(9999, 12, 31, tzinfo=UTC)
_DEFAULT_CONTEXT = 4096  # of the worker, where `n_ctx` is not set
_NAMED = {"A model": {"model": MODEL}}


@route("GET", "/api/version", tag="Ollama", errors=OLLAMA)
async def version() -> Version:
    """The version of Ollama whose API this is; that of this program is at /."""
    return Version(OLLAMA_VERSION)


@route("GET", "/api/tags", tag="Ollama", errors=OLLAMA)
async def tags(request: Request[Any, Any, Any]) -> Tags:
    """All models that a request can name, each with the tag `:latest`."""
    state = state_of(request)
    entries = {entry.name: entry for entry in await state.pool.catalog.entries() if not entry.problem}
    names = dict.fromkeys([*state.traffic.names, *entries])
    return Tags([_tag(name, entries.get(name), state) for name in names])


@route("GET", "/api/ps", tag="Ollama", errors=OLLAMA)
async def running(request: Request[Any, Any, Any]) -> RunningModels:
    """The models that are loaded."""
    state = state_of(request)
    entries = {entry.name: entry for entry in await state.pool.catalog.entries()}
    found = []
    for loaded in state.pool.names:
        model = loaded.model
        if model.state != READY or model.engine is None:
            continue
        use, info = await model.engine.memory(), model.engine.info
        found.append(
            Running(
                name=tagged_name(loaded.name),
                model=tagged_name(loaded.name),
                size=round((use.rss_mb + use.gpu_mb) * 1e6),
                digest=_digest(loaded.name, info.version),
                details=_details(entries.get(loaded.name), info),
                expires_at=_expires_at(model),
                size_vram=round(use.gpu_mb * 1e6),
                context_length=info.n_ctx,
            )
        )
    return RunningModels(found)


@route("POST", "/api/show", tag="Ollama", errors=OLLAMA, body=Body(NamedModel, _NAMED))
async def show(data: NamedModel, request: Request[Any, Any, Any]) -> Shown:
    """What a model is and can do."""
    state, name = state_of(request), _name(data)
    target = (await state.traffic.targets(name))[0]
    spec, _ = await state.pool.catalog.find(target)
    entry = await _entry(state, target)
    loaded = state.pool.get(target)
    info = loaded.engine.info if loaded is not None and loaded.engine is not None else None
    template = await asyncio.to_thread(chat_template, Path(spec.path)) if spec.path else ""
    family = _family(entry, info)
    context = _context(entry, info, spec.options.get("n_ctx"))
    return Shown(
        modelfile=f"# FROM {name}: this server has no Modelfiles\n",
        parameters=f"num_ctx {context}" if context else "",
        template=template,
        details=_details(entry, info),
        model_info={
            "general.architecture": family,
            "general.parameter_count": info.parameters if info else entry.parameters if entry else 0,
            **({f"{family}.context_length": context} if context else {}),
        },
        capabilities=_capabilities(entry, info, template),
        modified_at=_modified_at(entry, state),
    )


@route("POST", "/api/pull", tag="Ollama", errors=OLLAMA, body=Body(PullRequest, _NAMED), streams=LINES)
async def pull(data: PullRequest, request: Request[Any, Any, Any]) -> Response[Progress]:
    """Nothing is fetched over HTTP. Of a model that is here already, this is a success, since nothing is to be done."""
    name = _name(data)
    try:
        await state_of(request).pool.catalog.find(name)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            error.message, hint=f"this server fetches nothing over HTTP; run there: lqmf pull {name[:100]}"
        ) from None
    if data.stream is False:
        return Response(Progress("success"))
    return Response(line(Progress("success")), media_type=LINES)  # type: ignore[arg-type]


@route("POST", "/api/push", tag="Ollama", errors=OLLAMA)
async def push() -> None:
    """Refused: no model leaves this machine."""
    raise _refused("models are not pushed", "copy the model's folder yourself")


@route("POST", "/api/create", tag="Ollama", errors=OLLAMA)
async def create() -> None:
    """Refused: models are made by `lqmf quantize`."""
    raise _refused("models are not made over HTTP", "run lqmf quantize on the server's machine")


@route("POST", "/api/copy", tag="Ollama", errors=OLLAMA)
async def copy() -> None:
    """Refused: names are given by folders and configurations."""
    raise _refused("models are not copied over HTTP", "copy or link its folder on the server's machine")


@route("DELETE", "/api/delete", tag="Ollama", errors=OLLAMA)
async def delete() -> None:
    """Refused: files are removed on the server's machine."""
    raise _refused("models are not deleted over HTTP", "remove its folder on the server's machine")


@route(
    "POST", "/api/blobs/{digest:str}", tag="Ollama", errors=OLLAMA, parameters={"digest": "sha256:29fdb92e"}
)
async def upload(digest: str) -> None:
    """Refused: no files are taken."""
    raise _refused("files are not taken over HTTP", "put them into a folder on the server's machine")


def _refused(what: str, instead: str) -> InvalidRequestError:
    return InvalidRequestError(f"{what} here", hint=instead)


def _name(data: NamedModel) -> str:
    name = data.model or data.name
    if not name:
        raise FieldError("'model' is required, the name of a model", param="model")
    return plain_name(name)


def _tag(name: str, entry: CatalogEntry | None, state: ServerState) -> Tag:
    return Tag(
        name=tagged_name(name),
        model=tagged_name(name),
        modified_at=_modified_at(entry, state),
        size=round(entry.size_mb * 1e6) if entry else 0,
        digest=_digest(name, entry.version if entry else ""),
        details=_details(entry, None),
    )


async def _entry(state: ServerState, name: str) -> CatalogEntry | None:
    return next((entry for entry in await state.pool.catalog.entries() if entry.name == name), None)


def _details(entry: CatalogEntry | None, info: ModelInfo | None) -> Details:
    family = _family(entry, info)
    parameters = info.parameters if info else entry.parameters if entry else 0
    return Details(
        format=info.format if info else entry.format if entry else "",
        family=family,
        families=[family],
        parameter_size=_in_words(parameters) if parameters else "",
        quantization_level=info.method if info else entry.method if entry else "",
    )


def _family(entry: CatalogEntry | None, info: ModelInfo | None) -> str:
    """ "llama" of "LlamaForCausalLM" and of "llama"."""
    name = (info.architecture if info else "") or (entry.architecture if entry else "")
    return re.sub(r"For[A-Z]\w*|LMHeadModel", "", name).lower() or "unknown"


def _context(entry: CatalogEntry | None, info: ModelInfo | None, chosen: int | None) -> int:
    """Most tokens of a prompt and its answer: of a model that is not loaded, those that it will have."""
    if info is not None:
        return info.n_ctx
    made_for = entry.context_length if entry else 0
    return min(filter(None, (chosen or _DEFAULT_CONTEXT, made_for)))


def _capabilities(entry: CatalogEntry | None, info: ModelInfo | None, template: str) -> list[str]:
    if info.embeddings if info else entry is not None and entry.embeddings:
        return ["embedding"]
    found = ["completion"]
    if info.tools if info else re.search(r"\btools\b", template):
        found.append("tools")
    if knows_thoughts(template):
        found.append("thinking")
    return found


def _digest(name: str, version: str) -> str:
    """Of the content as far as it is known. Clients take models with the same one for the same."""
    return hashlib.sha256((version or f"model {name}").encode()).hexdigest()


def _modified_at(entry: CatalogEntry | None, state: ServerState) -> datetime:
    seconds = (entry.modified_at if entry else 0.0) or state.metrics.started_at
    return datetime.fromtimestamp(seconds, UTC)


def _expires_at(model: PooledModel) -> datetime:
    if model.pinned or model.keep_alive_s is None:
        return NEVER
    try:
        return datetime.fromtimestamp(model.last_used + model.keep_alive_s, UTC)
    except (OverflowError, ValueError, OSError):
        return NEVER


def _in_words(count: int) -> str:
    """ "1.5B" of 1,543,714,304."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            return f"{count / size:.1f}{unit}"
    return str(count)
