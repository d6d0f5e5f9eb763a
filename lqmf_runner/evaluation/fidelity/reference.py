"""The reference model of a fidelity measurement. It runs once, and each model is compared with its stored results.

Only one model is loaded at a time. What the reference gives (distributions, greedy answers, noise floor) is kept on
disk. A later run with the same reference, text and prompts does not load it at all.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec

from ...engine import load_engine
from ...engine.client import EngineClient
from ...engine.on_demand import LoadEngine, OnDemandEngine, WorkObserver
from ...errors import EngineError
from ...results.quality import NoiseFloor, ReferenceFigures
from ...types import GenerationRequest
from .comparison import Reference, ask_all, ask_greedily, score_windows
from .decisions import reference_decisions
from .divergence import greedy_requests, opening_requests
from .plan import FidelityPlan
from .store import ReferenceRecord, StoredReference
from .windows import kld_summary, perplexity, record_reference, top1_agreement

_FLOAT_DTYPES = ("float32", "bfloat16", "float16")
_NOISE_WINDOWS = 8  # rounding noise is similar in all windows, and the other dtype may be slow


async def prepare_reference(
    plan: FidelityPlan, observer: WorkObserver, *, load: LoadEngine = load_engine
) -> Reference:
    """Run the parts of the reference that are not stored already. Its worker has ended when this returns.

    Raises:
        LqmfError: it cannot be loaded, a request failed, there is NaN in its logits, or the disk is full.
    """
    engine = OnDemandEngine(plan.reference, load, observer)
    try:
        stored = plan.store.find(plan.key)
        if stored is None:
            stored = await _record(plan, await engine.client(), observer)
        requests, answers = await _reference_answers(plan, stored, engine, observer)
        decisions = None
        if plan.decisions is not None:
            decisions = await reference_decisions(plan.decisions, stored, engine, observer)
        texts = await _reference_texts(plan, stored, engine, observer)
    finally:
        await engine.close()
    floor = await _noise_floor(plan, stored, load, observer) if plan.noise_floor else None
    figures = ReferenceFigures(
        name=plan.reference.name,
        version=plan.reference.version,
        dtype=stored.record.dtype,
        perplexity=perplexity(stored.scores).value,
        text=plan.text.name,
        text_digest=plan.text.digest,
        tokens=len(stored.tokens),
        windows=len(stored.scores.nll),
        positions=stored.scores.nll.size,
        noise_floor=floor,
        origins=plan.origins,
        bos=stored.record.bos,
    )
    return Reference(figures, stored, plan.text, requests, answers, plan.divergence_tokens, decisions, texts)


async def _record(plan: FidelityPlan, client: EngineClient, observer: WorkObserver) -> StoredReference:
    key, info, name = plan.key, client.info, plan.reference.name
    tokens = (await client.tokenize(plan.text.text))[: plan.max_tokens]
    protocol = replace(plan.protocol, bos=info.bos)
    windows = protocol.cut(tokens)
    with plan.store.draft(key) as draft:
        draft.allocate(len(windows), info.n_vocab)
        observer.work_started(name, "reference", len(windows))
        scores = await record_reference(client, windows, protocol, draft.rows, observer.work_advanced)
        record = ReferenceRecord(
            key=key, name=name, method=info.method, dtype=info.dtype, n_vocab=info.n_vocab,
            chat_template=info.chat_template, bos=info.bos,
        )  # fmt: skip
        draft.finish(record, tokens[: len(windows) * plan.protocol.size], scores)
    observer.work_ended(name, "reference", f"perplexity {perplexity(scores).value:.2f}")
    stored = plan.store.find(key)
    if stored is None:
        raise EngineError(
            "the reference's distributions were lost while they were written", hint="run it again"
        )
    return stored


async def _reference_answers(
    plan: FidelityPlan, stored: StoredReference, engine: OnDemandEngine, observer: WorkObserver
) -> tuple[dict[str, GenerationRequest], dict[str, list[int]]]:
    """The requests that divergence is measured on, and the reference's answers to them."""
    if not plan.divergence_tokens or not plan.prompts.entries:
        return {}, {}
    chat = stored.record.chat_template
    requests = greedy_requests(plan.prompts, plan.divergence_tokens, chat=chat)
    name = _kept_as("answers", requests)
    answers = stored.recall(name, dict[str, list[int]])
    if answers is None:
        answers = await ask_greedily(await engine.client(), requests, plan.reference.name, observer)
        stored.keep(name, answers)
    return requests, answers


async def _reference_texts(
    plan: FidelityPlan, stored: StoredReference, engine: OnDemandEngine, observer: WorkObserver
) -> dict[str, str]:
    """The reference's answers to the first turns of the prompts, with the sampling of the loads."""
    if plan.answers is None:
        return {}
    requests = opening_requests(plan.prompts, plan.answers, chat=stored.record.chat_template)
    name = _kept_as("texts", requests)
    texts = stored.recall(name, dict[str, str])
    if texts is None:
        client = await engine.client()
        answers = await ask_all(client, requests, plan.reference.name, observer, "answers to judge")
        texts = {prompt: answer.text for prompt, answer in answers.items()}
        stored.keep(name, texts)
    return texts


def _kept_as(what: str, requests: dict[str, GenerationRequest]) -> str:
    return f"{what}-{hashlib.sha256(msgspec.json.encode(requests, order='deterministic')).hexdigest()[:16]}"


async def _noise_floor(
    plan: FidelityPlan, stored: StoredReference, load: LoadEngine, observer: WorkObserver
) -> NoiseFloor | None:
    """The reference in the other of two dtypes, its own and float32. None if there is no other."""
    own, used = stored.record.method, stored.record.dtype
    other = own if own != used else "float32"
    if own not in _FLOAT_DTYPES or used == other or "dtype" not in plan.reference.options:
        return None
    floor = stored.recall("noise_floor", NoiseFloor)
    if floor is not None and floor.dtype == other:
        return floor
    options = {**plan.reference.options, "dtype": other}
    engine = OnDemandEngine(msgspec.structs.replace(plan.reference, options=options), load, observer)
    try:
        client = await engine.client()
        if client.info.dtype == used:  # the other one does not fit in memory
            return None
        scores = await score_windows(
            client,
            stored,
            plan.reference.name,
            observer,
            what=f"noise floor, {other}",
            at_most=_NOISE_WINDOWS,
        )
    finally:
        await engine.close()
    agreement = top1_agreement(scores, stored.scores.head(_NOISE_WINDOWS)).value
    floor = NoiseFloor(
        dtype=other, kld=kld_summary(scores), top1_agreement=agreement, positions=scores.nll.size
    )
    stored.keep("noise_floor", floor)
    return floor
