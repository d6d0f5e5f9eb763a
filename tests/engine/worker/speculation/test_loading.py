"""Loading a draft model beside a model, on tiny models of every runner, in this process."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from lqmf_runner.engine.protocol import Delta
from lqmf_runner.engine.worker.request import Generating
from lqmf_runner.engine.worker.runners import runner_class
from lqmf_runner.engine.worker.runners.base import ModelRunner, Span
from lqmf_runner.engine.worker.runners.transformers import TransformersRunner
from lqmf_runner.engine.worker.sampling import Sampler
from lqmf_runner.engine.worker.scheduler import Scheduler, SchedulerLimits
from lqmf_runner.engine.worker.speculation.draft_model import DraftModel
from lqmf_runner.engine.worker.speculation.loading import LoadedModels, divide_gpus, load_models
from lqmf_runner.engine.worker.text import AnswerText
from lqmf_runner.errors import (
    DoesNotFitError,
    LqmfError,
    ModelNotFoundError,
    ModelUnusableError,
    UserInputError,
)
from lqmf_runner.types import Completion, ModelSpec, SamplingParams

from ....support.models.tiny import make_gguf
from .test_ngrams import KnownCosts

PAIRS = {  # model: draft model
    "gguf-llama": "gguf-llama, damaged",
    "gguf-gemma2": "gguf-gemma2",
    "transformers-llama": "transformers-llama, damaged",
    "transformers-gemma2": "transformers-llama",
    "bnb-llama": "transformers-llama",
}


@pytest.fixture(scope="module")
def drafts(
    specs: dict[str, ModelSpec], checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """Where the draft models lie: models of the contract suite, and two that often say what these say."""
    from ....support.models.architectures import make_gguf_twin

    root = tmp_path_factory.mktemp("drafts")
    damaged = damage(checkpoints["llama"], root / "damaged")
    return {
        **{name: spec.path for name, spec in specs.items()},
        "transformers-llama, damaged": str(damaged),
        "gguf-llama, damaged": str(make_gguf_twin(root / "damaged.gguf", damaged)),
    }


def damage(checkpoint: Path, folder: Path) -> Path:
    """A copy of a checkpoint with noise on its weights."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint, folder)
    (weights,) = folder.glob("*.safetensors")
    torch.manual_seed(1)
    tensors = {
        name: value + 0.15 * value.std() * torch.randn_like(value) if value.dim() > 1 else value
        for name, value in load_file(weights).items()
    }
    save_file(tensors, weights, metadata={"format": "pt"})
    return folder


def with_draft(spec: ModelSpec, path: str, **options: Any) -> ModelSpec:
    return with_option(spec, draft_model=path, **options)


def with_option(spec: ModelSpec, path: str | None = None, **options: Any) -> ModelSpec:
    return msgspec.structs.replace(spec, path=path or spec.path, options={**spec.options, **options})


def load(spec: ModelSpec) -> LoadedModels:
    return load_models(spec, 32, lambda share: None)


class Answers:
    """A scheduler over loaded models, and what it answers."""

    def __init__(self, runner: ModelRunner, draft: DraftModel | None) -> None:
        self.runner = runner
        if draft is not None:
            draft._costs = KnownCosts()
            draft._costs.of = lambda n_rows: 0.05 * n_rows  # type: ignore[method-assign]
        limits = SchedulerLimits(  # two of these share the runner: a slot's content must not be believed in
            n_batch=32, prefill_chunk=8, prefix_reuse=False, speculation="ngram" if draft else "off"
        )
        self._chunks: dict[int, list[Any]] = {}
        self.scheduler = Scheduler(runner, limits, self._take, KnownCosts(), draft)

    def _take(self, events: list[Any]) -> None:
        for event in events:
            assert isinstance(event, Delta), event
            self._chunks.setdefault(event.id, []).append(event.chunk)

    def of(self, prompts: list[str], n: int = 40, **sampling: Any) -> list[Completion]:
        params = SamplingParams(**{"temperature": 0, "ignore_eos": True, **sampling})
        tokenizer, self._chunks = self.runner.tokenizer, {}
        for number, prompt in enumerate(prompts):
            tokens = tokenizer.encode_prompt(prompt)
            sampler = Sampler(params, tokens, self.runner.info.n_vocab)
            answer = AnswerText(tokenizer.detokenizer(), params.stop)
            self.scheduler.add(Generating(number, tokens, n, params, sampler, answer))
        while self.scheduler.n_requests:
            self.scheduler.step()
        return [Completion.of(self._chunks[number]) for number in range(len(prompts))]


@pytest.mark.parametrize("case", PAIRS)
def test_a_draft_model_changes_no_answer(
    specs: dict[str, ModelSpec], drafts: dict[str, str], case: str
) -> None:
    loaded = load(with_draft(specs[case], drafts[PAIRS[case]]))
    assert isinstance(loaded.runner, ModelRunner)
    assert loaded.info.draft_model
    assert any("draft model" in note for note in loaded.info.notes)
    helped, plain = Answers(loaded.runner, loaded.draft_model), Answers(loaded.runner, None)
    prompts = ["the cat", "Où est la gare ?", "x" * 70, "numbers: 1 2 3 4 5"]
    for some in ([prompts[0]], prompts):
        with_drafts, without = helped.of(some), plain.of(some)
        assert [a.token_ids for a in with_drafts] == [a.token_ids for a in without]
    stats = helped.scheduler.stats()
    assert stats.draft_model_drafted_tokens > 0
    if case != "transformers-gemma2":
        assert stats.draft_model_accepted_tokens > 0
    if case == "gguf-gemma2":
        assert stats.draft_model_accepted_tokens > 0.9 * stats.draft_model_drafted_tokens, (
            "it is the same model"
        )
    seeded = {"temperature": 1.0, "seed": 7, "n": 30}
    assert helped.of(prompts[:2], **seeded)[0].token_ids == plain.of(prompts[:2], **seeded)[0].token_ids
    stop = plain.of(["the cat"])[0].text[10:12]
    assert helped.of(["the cat"], stop=(stop,))[0].text == plain.of(["the cat"], stop=(stop,))[0].text


def test_the_draft_model_has_a_slot_for_each_request_that_drafts(
    specs: dict[str, ModelSpec], drafts: dict[str, str]
) -> None:
    loaded = load(with_draft(specs["gguf-llama"], drafts["gguf-llama, damaged"], max_slots=16, n_ctx=300))
    assert loaded.draft_model is not None
    info = loaded.draft_model._runner.info
    assert (info.max_slots, info.n_ctx) == (4, 300)


@pytest.mark.parametrize("case", ["gguf-llama", "gguf-gemma2", "transformers-llama", "bnb-llama"])
def test_the_need_of_a_model_is_known_from_its_files(specs: dict[str, ModelSpec], case: str) -> None:
    spec = specs[case]
    runner = load(spec).runner
    assert isinstance(runner, ModelRunner)
    runner.step([Span(0, [3, 4, 5, 6, 7, 8, 9, 10], 0, 1)])
    per_token = runner.saved_bytes(0, 8) / 8
    n_slots = spec.options["max_slots"] + (not case.startswith("gguf"))  # one may be a spare
    cache = per_token * spec.options["n_ctx"] * n_slots
    weights = runner.info.size_mb * 1e6 if case.startswith("gguf") else runner.info.parameters * 4
    assert runner.needed_bytes(spec) == pytest.approx(cache + weights, rel=0.05 if "gguf" in case else 1e-3)


@pytest.mark.parametrize("case", ["gguf-llama", "transformers-llama"])
def test_the_cache_of_the_model_leaves_room_for_the_draft_model(
    specs: dict[str, ModelSpec], drafts: dict[str, str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    spec = specs[case]
    kind = runner_class(spec.format)
    cache = kind.needed_bytes(spec) - kind.needed_bytes(with_option(spec, n_ctx=128))
    per_slot = 2 * cache / (spec.options["max_slots"] + (spec.format != "gguf"))
    helped = with_draft(spec, drafts[PAIRS[case]])
    need = kind.needed_bytes(with_option(spec, path=helped.options["draft_model"], kv_type="f16"))
    free = int(need + 2.5 * per_slot)
    monkeypatch.setattr(sys.modules[kind.__module__], "available_memory", lambda: free)
    assert load(spec).info.max_slots == 4
    loaded = load(helped)
    assert loaded.info.max_slots == 2
    assert any("memory holds 2 requests" in note for note in loaded.info.notes)
    assert loaded.draft_model is not None
    assert loaded.draft_model._runner.info.max_slots == 2
    monkeypatch.setattr(sys.modules[kind.__module__], "available_memory", lambda: need)
    with pytest.raises(DoesNotFitError, match=r"the KV cache of .* needs .* 0 MB are free"):
        load(helped)


def test_a_draft_model_goes_where_the_settings_say_and_counts_in_their_limits(
    specs: dict[str, ModelSpec], drafts: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []

    def record(spec: ModelSpec, progress: Any, reserved: int = 0) -> TransformersRunner:
        loads.append((spec, reserved))
        return original(spec, progress, reserved)

    original = TransformersRunner.load
    monkeypatch.setattr(TransformersRunner, "load", record)
    draft = drafts["transformers-llama, damaged"]
    load(with_draft(specs["transformers-llama"], draft, device_map="auto", gpu_memory_mb=[100.0, 150.0]))
    (model, reserved), (drafting, nothing) = loads
    assert model.options["gpu_memory_mb"] == [100.0, 150.0 - reserved / 1e6]
    assert (drafting.options["device_map"], drafting.options["gpu_memory_mb"]) == ("cuda:1", None)
    assert reserved > 1e6 > nothing == 0


def test_the_gpus_are_divided_between_a_model_and_its_draft_model() -> None:
    assert divide_gpus({"device_map": "auto", "gpu_memory_mb": None}, 500) == ({}, {})
    assert divide_gpus({}, 500) == ({}, {})
    assert divide_gpus({"device_map": "cuda:1"}, 500) == ({}, {"device_map": "cuda:1"})
    limited = {"device_map": "balanced", "gpu_memory_mb": [4000.0, 6000.0]}
    assert divide_gpus(limited, 500) == ({"gpu_memory_mb": [4000.0, 5500.0]}, {"device_map": "cuda:1"})
    named = {"device_map": "cuda:0", "gpu_memory_mb": [4000.0, 6000.0]}
    assert divide_gpus(named, 500) == ({"gpu_memory_mb": [3500.0, 6000.0]}, {"device_map": "cuda:0"})
    assert divide_gpus({**limited, "device": "cpu"}, 5000) == ({}, {})
    with pytest.raises(UserInputError, match=r"no room for the draft model, which needs 6500 MB"):
        divide_gpus(limited, 6500)


@pytest.mark.parametrize("kind", ["gguf", "transformers"])
def test_another_vocabulary_is_refused(
    specs: dict[str, ModelSpec], checkpoints: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    if kind == "gguf":
        spec, other = specs["gguf-llama"], make_gguf(tmp_path / "other.gguf")
        data = other.read_bytes()
        assert data.count(b"<|im_end|>") >= 1
        other.write_bytes(data.replace(b"<|im_end|>", b"<|im_END|>", 1))
    else:
        spec, other = specs["transformers-llama"], tmp_path / "other"
        shutil.copytree(checkpoints["llama"], other)
        for file in other.glob("*.json"):
            file.write_text(file.read_text("utf-8").replace("<|im_end|>", "<|im_END|>"), "utf-8")
    with pytest.raises(ModelUnusableError, match=r"vocabularies differ in 1 of \d+ tokens, e.g. token 2"):
        load(with_draft(spec, str(other)))


def test_a_vocabulary_that_is_padded_to_another_width_is_the_same(
    specs: dict[str, ModelSpec], tmp_path: Path
) -> None:
    wide = make_gguf(tmp_path / "wide.gguf", n_vocab=300)
    loaded = load(with_draft(specs["gguf-llama"], str(wide)))
    assert isinstance(loaded.runner, ModelRunner)
    helped, plain = Answers(loaded.runner, loaded.draft_model), Answers(loaded.runner, None)
    assert helped.of(["the cat"])[0].token_ids == plain.of(["the cat"])[0].token_ids
    narrow = msgspec.structs.replace(specs["gguf-llama"], path=str(wide))
    loaded = load(with_draft(narrow, specs["gguf-llama"].path))
    assert isinstance(loaded.runner, ModelRunner)
    helped, plain = Answers(loaded.runner, loaded.draft_model), Answers(loaded.runner, None)
    assert helped.of(["the cat"])[0].token_ids == plain.of(["the cat"])[0].token_ids
    assert helped.scheduler.stats().draft_model_failures == 0


def test_what_cannot_draft_is_refused_in_words(
    specs: dict[str, ModelSpec], drafts: dict[str, str], tmp_path: Path
) -> None:
    gguf, bnb = specs["gguf-llama"], specs["bnb-llama"]
    embedder = make_gguf(tmp_path / "embedder.gguf", pooling=1)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(Path(gguf.path).read_bytes()[:5000])
    cases: list[tuple[ModelSpec, str, type[LqmfError], str]] = [
        (gguf, drafts["transformers-llama"], UserInputError, "one program has to run both"),
        (bnb, gguf.path, UserInputError, "one program has to run both"),
        (gguf, str(tmp_path / "none.gguf"), ModelNotFoundError, "not on this machine"),
        (gguf, str(embedder), ModelUnusableError, "made for embeddings"),
        (gguf, str(broken), ModelUnusableError, "broken"),
        (msgspec.structs.replace(gguf, path=str(embedder)), gguf.path, UserInputError, "takes no drafts"),
    ]
    for spec, draft, error, words in cases:
        with pytest.raises(error, match=words):
            load(with_draft(spec, draft))


async def test_a_worker_says_who_drafted_and_gives_the_memory_back(
    specs: dict[str, ModelSpec], drafts: dict[str, str]
) -> None:
    from lqmf_runner.engine.local import LocalEngine
    from lqmf_runner.types import GenerationRequest

    sampling = SamplingParams(max_tokens=40, temperature=0, ignore_eos=True)
    request = GenerationRequest(prompt="the cat", sampling=sampling)
    spec = with_draft(specs["gguf-llama"], drafts["gguf-llama, damaged"])
    async with await LocalEngine.start(spec) as engine:
        answer = await engine.complete(request)
        again = await asyncio.gather(*(engine.complete(request) for _ in range(3)))
        stats, info = await engine.stats(), engine.info
        pid = engine.pid
    assert not psutil.pid_exists(pid)
    assert info.draft_model == "damaged (F32)"
    assert stats.draft_model_drafted_tokens >= 3, "the first draft is made to learn what it costs"
    assert answer.usage.drafted_tokens >= answer.usage.draft_model_drafted_tokens
    async with await LocalEngine.start(specs["gguf-llama"]) as engine:
        plain = await engine.complete(request)
    assert [plain.token_ids] * 4 == [answer.token_ids, *(a.token_ids for a in again)]
