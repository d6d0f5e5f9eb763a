"""Loads a draft model beside the model that it drafts for, and refuses one that could not draft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ....config import BackendConfig
from ....errors import ModelUnusableError, UserInputError
from ....models import FoundModel
from ....models.draft import find_draft
from ....models.locate import fit_backend
from ....types import ModelInfo, ModelSpec
from ..runners import load_model, runner_class
from ..runners.base import ModelRunner, Progress
from .draft_model import MOST_DRAFTING, DraftModel

if TYPE_CHECKING:
    from ..runners.llama_embedding import LlamaEmbedder

_SHARED = ("n_batch", "n_threads", "device", "fallback")  # settings that it has in common with the model
_OWN = ("dtype", "cuda_graphs", "main_gpu")  # as well, where its format has them
_SPREAD = ("auto", "balanced", "balanced_low_0", "sequential")  # a `device_map` that is no device


class LoadedModels(NamedTuple):
    """What a worker holds.

    Attributes:
        runner: the model, one that generates or one that is made for embeddings.
        info: what it is, with its draft model.
        draft_model: drafts for it; None without one.
    """

    runner: ModelRunner | LlamaEmbedder
    info: ModelInfo
    draft_model: DraftModel | None = None


def load_models(spec: ModelSpec, n_batch: int, progress: Progress) -> LoadedModels:
    """The loaded model, and its draft model if it has one.

    The model's weights and cache leave room for the draft model, whose need is known from its files.

    Args:
        n_batch: tokens in a step.
        progress: of the model's own load.

    Raises:
        LqmfError: one of them cannot be loaded, or they do not go together.
    """
    if not spec.options.get("draft_model"):
        runner = load_model(spec, progress)
        return LoadedModels(runner, runner.info)
    found = find_draft(spec.options["draft_model"], spec.format, spec.name)
    drafting = runner_class(found.format)
    draft_spec = _draft_spec(spec, found)
    needed = drafting.needed_bytes(draft_spec)
    limits, place = divide_gpus(spec.options, needed / 1e6)
    runner = load_model(_with(spec, limits), progress, needed)
    if not isinstance(runner, ModelRunner):
        raise UserInputError(
            f"'{spec.name}' is made for embeddings and takes no drafts", hint="leave out backend.draft_model"
        )
    planned = {
        "n_ctx": min(found.context_length or runner.info.n_ctx, runner.info.n_ctx),
        "max_slots": min(draft_spec.options["max_slots"], runner.info.max_slots),
    }
    draft = drafting.load(_with(draft_spec, {**place, **planned}), lambda share: None)
    _check_cuts(draft, f"the draft model '{found.name}'")
    _check_pair(runner, draft)
    reuse = spec.options.get("prefix_reuse", True)
    draft_model = DraftModel(draft, runner.info.n_vocab, n_batch, reuse=reuse)
    name = f"{draft.info.name} ({draft.info.method})"
    notes = [f"a draft model helps it: {name}", *(f"draft model: {note}" for note in draft.info.notes)]
    info = msgspec.structs.replace(runner.info, draft_model=name, notes=(*runner.info.notes, *notes))
    return LoadedModels(runner, info, draft_model)


def divide_gpus(options: Mapping[str, Any], draft_mb: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the model may take of the GPUs beside its draft model, and where that goes, as settings of the backend.

    The draft model goes to the device that `device_map` names. Its need counts in `gpu_memory_mb`; if no device is
    named, it goes to the GPU of which the most may be taken.

    Args:
        options: of the model's backend.
        draft_mb: what the draft model needs.

    Raises:
        UserInputError: `gpu_memory_mb` leaves no room for it.
    """
    device_map, limits = options.get("device_map", "auto"), options.get("gpu_memory_mb")
    named = device_map not in _SPREAD
    if not limits or options.get("device") == "cpu":
        return {}, {"device_map": device_map} if named else {}
    largest = max(range(len(limits)), key=limits.__getitem__)
    index = int(str(device_map).rpartition(":")[2]) if named and str(device_map)[-1:].isdigit() else largest
    left = [mb - draft_mb if i == index else mb for i, mb in enumerate(limits)]
    if min(left) < 0 or index >= len(limits):
        raise UserInputError(
            f"backend.gpu_memory_mb leaves no room for the draft model, which needs {draft_mb:.0f} MB on one GPU",
            hint="raise it, lower backend.n_ctx, or leave out backend.draft_model",
        )
    return {"gpu_memory_mb": left}, {"device_map": f"cuda:{index}"}


def _draft_spec(spec: ModelSpec, found: FoundModel) -> ModelSpec:
    """The draft model as it is asked for.

    Its context is that of the model, as far as it was made for so much. It has a slot for each request that may draft.

    Raises:
        UserInputError: it is of another format than the settings.
    """
    options: dict[str, Any] = {name: spec.options[name] for name in _SHARED if name in spec.options}
    n_ctx = spec.options.get("n_ctx")
    backend = BackendConfig(
        n_ctx=min(n_ctx, found.context_length) if n_ctx and found.context_length else n_ctx,
        max_slots=min(spec.options.get("max_slots", MOST_DRAFTING), MOST_DRAFTING),
        prompt_cache_mb=0,
        **options,
    )
    fitted = fit_backend(backend, found, found.name)
    own = {name: spec.options[name] for name in _OWN if name in spec.options and hasattr(fitted, name)}
    return ModelSpec(
        name=found.name, format=found.format, path=found.path, options=asdict(replace(fitted, **own))
    )


def _with(spec: ModelSpec, options: Mapping[str, Any]) -> ModelSpec:
    return msgspec.structs.replace(spec, options={**spec.options, **options})


def _check_pair(runner: ModelRunner, draft: ModelRunner) -> None:
    """Refuse a draft model whose drafts the model could not verify."""
    if runner.info.batch_invariant:
        raise UserInputError(
            f"'{runner.info.name}' takes no drafts with backend.batch_invariant",
            hint="leave out backend.draft_model",
        )
    _check_cuts(runner, f"'{runner.info.name}'")
    check_vocabulary(runner, draft)


def check_vocabulary(runner: ModelRunner, draft: ModelRunner) -> None:
    """Refuse a draft model whose tokens are others.

    The wider of two vocabularies may have more tokens at its end: models of one family are padded to different widths.
    """
    ours, theirs = runner.tokenizer, draft.tokenizer
    shared = range(min(runner.info.n_vocab, draft.info.n_vocab))
    differing = [token for token in shared if ours.entry(token) != theirs.entry(token)]
    if differing:
        token = differing[0]
        raise ModelUnusableError(
            f"'{draft.info.name}' cannot draft for '{runner.info.name}': their vocabularies differ in "
            f"{len(differing)} of {len(shared)} tokens, e.g. token {token} is {ours.entry(token)!r} and "
            f"{theirs.entry(token)!r}",
            hint="take a smaller model of the same family, or leave out backend.draft_model",
        )


def _check_cuts(runner: ModelRunner, what: str) -> None:
    if not runner.can_reuse_prefix:
        raise ModelUnusableError(
            f"the cache of {what} cannot be cut back behind a refused draft, as it is recurrent",
            hint="leave out backend.draft_model",
        )
