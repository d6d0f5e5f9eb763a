"""Fidelity of models to a reference: the reference runs once, then each model is held against what it left.

Only one model is loaded at a time. What the reference gives (distributions, greedy answers, noise floor) is kept on
disk, so that a later run with the same reference, text and prompts does not load it at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ...config import FidelityConfig, PromptsConfig
from ...decisions.sets import DecisionSet, load_decisions
from ...engine import load_engine
from ...engine.client import EngineClient
from ...engine.on_demand import LoadEngine, OnDemandEngine, WorkObserver
from ...errors import EngineError, UserInputError
from ...results.quality import Histogram, NoiseFloor, ReferenceFigures
from ...results.schema import ModelResult
from ...types import Completion, GenerationRequest, ModelSpec, SamplingParams
from .decisions import ReferenceDecisions, reference_decisions
from .divergence import answer_all, divergence, greedy_requests, opening_requests
from .store import ReferenceKey, ReferenceRecord, ReferenceStore, StoredReference
from .text import EvaluationText, load_text
from .windows import (
    PositionScores,
    WindowProtocol,
    check_tokenizer,
    compare_with_reference,
    kld_summary,
    perplexity,
    perplexity_ratio,
    record_reference,
    top1_agreement,
)

# The settings of a backend that change the numbers a model gives.
_NUMERIC_OPTIONS = (
    "dtype", "device", "device_map", "flash_attn", "kv_type", "n_gpu_layers", "quantize_on_load",
)  # fmt: skip
_FLOAT_DTYPES = ("float32", "bfloat16", "float16")
_NOISE_WINDOWS = 8  # rounding noise is much the same everywhere, and the other dtype may be a slow one
_KLD_EDGES = np.logspace(-6, 1.5, 31)


@dataclass(frozen=True)
class FidelityPlan:
    """What to compare with, on which text, and where the reference's share is kept.

    Attributes:
        decisions: to ask for; None asks for none.
        answers: sampling of the answers to the prompts that a judge is to see; None where there is none.
    """

    reference: ModelSpec
    text: EvaluationText
    max_tokens: int
    noise_floor: bool
    divergence_tokens: int
    prompts: PromptsConfig
    store: ReferenceStore
    decisions: DecisionSet | None = None
    answers: SamplingParams | None = None
    protocol: WindowProtocol = dataclasses.field(default_factory=WindowProtocol)

    @classmethod
    def of(
        cls,
        config: FidelityConfig,
        reference: ModelSpec,
        prompts: PromptsConfig,
        output_dir: str,
        answers: SamplingParams | None = None,
    ) -> FidelityPlan:
        """The plan of a configuration.

        Raises:
            UserInputError: the reference is an endpoint, or the text or the decisions cannot be read.
        """
        if reference.format == "openai":
            raise UserInputError(
                f"the reference '{reference.name}' runs behind an endpoint, which does not give full distributions",
                hint="name a model on this machine: reference=smollm2_bf16",
            )
        options = dict(reference.options)
        if "dtype" in options and options["dtype"] == "auto":
            options["dtype"] = config.dtype
        return cls(
            reference=msgspec.structs.replace(reference, options=options),
            text=load_text(config),
            max_tokens=config.max_tokens,
            noise_floor=config.noise_floor,
            divergence_tokens=config.divergence_tokens,
            prompts=prompts,
            store=ReferenceStore(Path(config.cache_dir or Path(output_dir) / ".fidelity").expanduser()),
            decisions=load_decisions(config.decision_set) if config.decisions else None,
            answers=answers,
        )

    @property
    def key(self) -> ReferenceKey:
        """What its distributions are kept under."""
        options = self.reference.options
        return ReferenceKey(
            model=self.reference.version,
            settings={"format": self.reference.format}
            | {k: options[k] for k in _NUMERIC_OPTIONS if k in options},
            text=self.text.digest,
            max_tokens=self.max_tokens,
            size=self.protocol.size,
            first=self.protocol.first,
        )


@dataclass(frozen=True)
class Reference:
    """A reference that has run: all that a model is compared with. Make it with `prepare_reference`.

    Attributes:
        requests, answers: the greedy ones that divergence is measured on, by prompt id.
        decisions: what it decided; None where that is not asked for, or it cannot be asked.
        texts: its answers for a judge, by prompt id.
    """

    figures: ReferenceFigures
    stored: StoredReference
    text: EvaluationText
    requests: dict[str, GenerationRequest]
    answers: dict[str, list[int]]
    divergence_tokens: int
    decisions: ReferenceDecisions | None = None
    texts: dict[str, str] = dataclasses.field(default_factory=dict)

    async def check(self, client: EngineClient) -> None:
        """Refuse a model that cannot be compared, before time is spent on it.

        Raises:
            UserInputError: it tokenizes the text differently.
        """
        await check_tokenizer(client, self.text.text, self.figures.name, self.stored.tokens)

    async def measure(self, client: EngineClient, result: ModelResult, observer: WorkObserver) -> None:
        """Fill in the model's perplexity, KL divergence, top-1 agreement, divergence and decisions.

        Raises:
            LqmfError: a request failed, or there is NaN in the logits.
        """
        scores = await _compare(client, self.stored, result.name, observer)
        mine, same, kld = perplexity(scores), top1_agreement(scores, self.stored.scores), kld_summary(scores)
        ratio = perplexity_ratio(scores, self.stored.scores)
        parting = None
        if self.requests:
            answers = await _greedy(client, self.requests, result.name, observer)
            parting = divergence(answers, self.answers, self.divergence_tokens)
        result.quality = msgspec.structs.replace(
            result.quality,
            perplexity=mine.value,
            perplexity_se=mine.se,
            perplexity_ratio=ratio.value,
            perplexity_ratio_se=ratio.se,
            kld=kld,
            kld_histogram=_histogram(scores),
            top1_agreement=same.value,
            top1_agreement_se=same.se,
            divergence=parting,
            reference=self.figures,
        )
        await self.measure_decisions(client, result, observer)

    async def measure_decisions(
        self, client: EngineClient, result: ModelResult, observer: WorkObserver
    ) -> None:
        """Fill in the decisions alone, for which an endpoint tells enough.

        Raises:
            EngineError: the engine was lost, or there is NaN in its logits.
        """
        if self.decisions is not None:
            await self.decisions.measure(client, result, observer)


async def prepare_reference(
    plan: FidelityPlan, observer: WorkObserver, *, load: LoadEngine = load_engine
) -> Reference:
    """Run the reference as far as what it gives is not kept already; its worker has ended when this returns.

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
    )
    return Reference(figures, stored, plan.text, requests, answers, plan.divergence_tokens, decisions, texts)


async def _record(plan: FidelityPlan, client: EngineClient, observer: WorkObserver) -> StoredReference:
    key, info, name = plan.key, client.info, plan.reference.name
    tokens = (await client.tokenize(plan.text.text))[: plan.max_tokens]
    windows = plan.protocol.cut(tokens)
    with plan.store.draft(key) as draft:
        draft.allocate(len(windows), info.n_vocab)
        observer.work_started(name, "reference", len(windows))
        scores = await record_reference(client, windows, plan.protocol, draft.rows, observer.work_advanced)
        record = ReferenceRecord(
            key=key, name=name, method=info.method, dtype=info.dtype, n_vocab=info.n_vocab,
            chat_template=info.chat_template,
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
        answers = await _greedy(await engine.client(), requests, plan.reference.name, observer)
        stored.keep(name, answers)
    return requests, answers


async def _reference_texts(
    plan: FidelityPlan, stored: StoredReference, engine: OnDemandEngine, observer: WorkObserver
) -> dict[str, str]:
    """The reference's answers to the first turns of the prompts, as the loads ask for them."""
    if plan.answers is None:
        return {}
    requests = opening_requests(plan.prompts, plan.answers, chat=stored.record.chat_template)
    name = _kept_as("texts", requests)
    texts = stored.recall(name, dict[str, str])
    if texts is None:
        answers = await _answers(
            await engine.client(), requests, plan.reference.name, observer, "answers to judge"
        )
        texts = {prompt: answer.text for prompt, answer in answers.items()}
        stored.keep(name, texts)
    return texts


def _kept_as(what: str, requests: dict[str, GenerationRequest]) -> str:
    return f"{what}-{hashlib.sha256(msgspec.json.encode(requests, order='deterministic')).hexdigest()[:16]}"


async def _noise_floor(
    plan: FidelityPlan, stored: StoredReference, load: LoadEngine, observer: WorkObserver
) -> NoiseFloor | None:
    """The reference in the other of two dtypes, its own and float32; None where there is no other."""
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
        scores = await _compare(
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


async def _compare(
    client: EngineClient,
    stored: StoredReference,
    name: str,
    observer: WorkObserver,
    what: str = "fidelity",
    at_most: int | None = None,
) -> PositionScores:
    windows = stored.windows[:at_most]
    observer.work_started(name, what, len(windows))
    scores = await compare_with_reference(
        client, windows, stored.protocol, stored.rows, stored.record.n_vocab, observer.work_advanced
    )
    same = top1_agreement(scores, stored.scores.head(len(windows))).value
    observer.work_ended(name, what, f"KLD {kld_summary(scores).mean:.2g}  top-1 {same * 100:.1f} %")
    return scores


async def _greedy(
    client: EngineClient, requests: dict[str, GenerationRequest], name: str, observer: WorkObserver
) -> dict[str, list[int]]:
    answers = await _answers(client, requests, name, observer, "greedy answers")
    return {prompt: list(answer.token_ids) for prompt, answer in answers.items()}


async def _answers(
    client: EngineClient,
    requests: dict[str, GenerationRequest],
    name: str,
    observer: WorkObserver,
    what: str,
) -> dict[str, Completion]:
    observer.work_started(name, what, len(requests))
    answers = await answer_all(client, requests, observer.work_advanced)
    observer.work_ended(name, what, f"{len(answers)}")
    return answers


def _histogram(scores: PositionScores) -> Histogram:
    """KL divergences on logarithmic bins from 1e-6 to 32 nats; those outside count in the bins at the ends."""
    assert scores.kld is not None
    inside = np.clip(scores.kld, _KLD_EDGES[0], _KLD_EDGES[-1])
    return Histogram(_KLD_EDGES.tolist(), np.histogram(inside, _KLD_EDGES)[0].tolist())
