"""Answers are graded when all models have answered: by a judge, by shared words, by embeddings; and when that fails."""

from __future__ import annotations

import dataclasses
import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from lqmf_runner.config import (
    BenchmarkMode,
    FidelityConfig,
    JudgeConfig,
    ModelConfig,
    Prompt,
    PromptsConfig,
    RunConfig,
    SimilarityConfig,
)
from lqmf_runner.engine.client import EngineClient
from lqmf_runner.errors import ContextLengthError, DoesNotFitError, RemoteEngineError, UserInputError
from lqmf_runner.load.plan import BenchmarkPlan
from lqmf_runner.results.files import read_judgements
from lqmf_runner.results.quality import JudgeFigures
from lqmf_runner.results.schema import ModelResult
from lqmf_runner.runs.benchmark import run_with
from lqmf_runner.runs.context import RunContext
from lqmf_runner.tracking.values import model_metrics
from lqmf_runner.types import Embeddings, GenerationRequest, ModelSpec
from tests.conftest import Compose, Run
from tests.support.engine.bigram import BigramEngine, table
from tests.support.engine.judges import Rule, RuledJudge, always_first, answers_in, by_length
from tests.support.engine.scripted import Say, ScriptedEngine
from tests.support.runs.bench import Bench

PROMPTS = PromptsConfig(
    name="few",
    system="Be brief.",
    entries=[
        Prompt(id="a", prompt="Name a colour.", reference="dark red"),
        Prompt(id="b", prompt="Name two."),
        Prompt(id="c", turns=["Hi.", "And now?"], reference="dark red"),
    ],
)
WORDS = {"short": "red", "long": "dark red", "same": "dark red"}


class Graded(Bench):
    """Models that always say the same, and a judge that goes by a rule."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.mode = BenchmarkMode(concurrency=[2], requests=8, warmup=0)
        self.judge_config = JudgeConfig(model="judge")
        self.similarity = SimilarityConfig()
        self.rule: Rule = by_length
        self.graders: list[EngineClient] = []
        self.reference: str | None = None

    def run(self, *models: str) -> int:
        configs = [self._config(name) for name in models]
        asked = {"judge": self.judge_config.model, "embedder": self.similarity.model}
        context = RunContext(
            config=configs[0], models=tuple(configs), resolved={}, run_dir=self.folder, command="x",
            plans=tuple(map(BenchmarkPlan.of, configs)),
            reference=self._config(self.reference) if self.reference else None,
            **{key: self._config(name) for key, name in asked.items() if name},
        )  # fmt: skip
        return run_with(context, locate=self._locate, load=self._load_any)

    @property
    def model(self) -> ModelResult:
        return self.results.models[0]

    def judged(self, name: str) -> JudgeFigures:
        found = next(model for model in self.results.models if model.name == name).quality.judge
        assert found is not None
        return found

    def _config(self, name: str) -> RunConfig:
        return RunConfig(
            model=ModelConfig(name=name), prompts=PROMPTS, mode=self.mode, tracking=self.tracking,
            judge=self.judge_config, similarity=self.similarity, reference=self.reference,
            fidelity=FidelityConfig(
                max_tokens=512, divergence_tokens=2, noise_floor=False, cache_dir=str(self.folder / "cache")
            ),
        )  # fmt: skip

    def _locate(self, config: RunConfig) -> ModelSpec:
        return msgspec.structs.replace(super()._locate(config), format="gguf")

    async def _load_any(self, spec: ModelSpec, on_progress: Callable[[float], None] | None) -> EngineClient:
        if spec.name in WORDS:
            self.scripts[spec.name] = lambda *_: [Say(0.0, WORDS[spec.name], 2)]
            return await self._load(spec, on_progress)
        assert all(engine.closed for engine in self.engines), "the graded models are gone"
        if isinstance(self.scripts.get(spec.name), Exception):
            raise self.scripts[spec.name]  # type: ignore[misc]
        self.graders.append(Embedder() if spec.name == "embedder" else RuledJudge(self.rule))
        return self.graders[-1]


class Embedder(ScriptedEngine):
    """A text's vector counts two of its letters."""

    def __init__(self) -> None:
        super().__init__(lambda *_: [])

    async def embed(self, texts: Sequence[str | Sequence[int]]) -> Embeddings:
        return Embeddings([[float(text.count("d")), float(text.count("k"))] for text in texts])  # type: ignore[arg-type]


@pytest.fixture
def graded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Graded:
    """Without plots and the measurement of the memory: they have tests of their own, and take most of the time."""
    monkeypatch.setattr("lqmf_runner.reports.plots.draw_plots", lambda *_: [])
    monkeypatch.setattr("lqmf_runner.runs.benchmark.memory_bandwidth_gb_s", lambda: 10.0)
    return Graded(tmp_path)


def test_scores_and_preferences_are_in_results_reports_and_metrics(
    graded: Graded, capsys: pytest.CaptureFixture[str]
) -> None:
    assert graded.run("short", "long", "same") == 0
    short, long = graded.judged("short"), graded.judged("long")
    assert (short.model, short.rubric, short.answers, short.failed) == ("judge", "default", 3, 0)
    assert short.score == pytest.approx(1 / 3)  # a level a word, of 0 to 3
    assert long.score == pytest.approx(2 / 3)
    assert short.criteria == {
        "correctness": short.score, "helpfulness": short.score, "clarity": short.score,
    }  # fmt: skip
    assert short.pairs is None, "the first model is what the others are held against"
    assert long.pairs is not None
    assert (long.pairs.against, long.pairs.wins, long.pairs.ties, long.pairs.losses) == ("short", 3, 0, 0)
    assert long.pairs.preference == pytest.approx(0.85)
    assert (long.pairs.order_disagreement, long.pairs.first_preferred) == (0, pytest.approx(0.5))
    metrics = model_metrics(graded.results.models[1])
    assert metrics["quality/judge.score"] == pytest.approx(2 / 3)
    assert metrics["quality/judge.pairs.wins"] == 3
    assert metrics["quality/judge.criteria.clarity"] == pytest.approx(2 / 3)
    assert "judge" in capsys.readouterr().out
    for name in ("report.md", "report.html"):
        text = (graded.folder / name).read_text()
        assert "preference, in both orders" in text
        assert "Judge: judge, by the rubric" in text
        assert "judge 0.67" in text, "beside each answer"
    lines = read_judgements(graded.folder)
    assert len(lines) == 9
    assert {line.prompt_id for line in lines} == {"a", "b", "c"}
    assert all(engine.closed for engine in graded.graders)  # type: ignore[attr-defined]


def test_a_judge_that_always_prefers_the_first_prefers_nobody(graded: Graded) -> None:
    graded.rule = always_first
    graded.run("short", "long")
    pairs = graded.judged("long").pairs
    assert pairs is not None
    assert (pairs.wins, pairs.ties, pairs.losses) == (0, 3, 0)
    assert pairs.preference == pytest.approx(0.5)
    assert (pairs.order_disagreement, pairs.first_preferred) == (1, pytest.approx(0.9))


def test_equal_answers_are_not_shown(graded: Graded) -> None:
    graded.judge_config = dataclasses.replace(graded.judge_config, score=False)
    graded.run("long", "same")
    pairs = graded.judged("same").pairs
    assert pairs is not None
    assert (pairs.pairs, pairs.identical, pairs.ties, pairs.order_disagreement) == (3, 3, 3, None)
    assert graded.graders[0].asked == []  # type: ignore[attr-defined]
    assert graded.judged("same").score is None


def test_a_judge_sees_the_request_the_system_prompt_and_the_reference_answer(graded: Graded) -> None:
    graded.run("long")
    asked = graded.graders[0].asked  # type: ignore[attr-defined]
    first = next(text for text in asked if "Name a colour." in text)
    assert "Be brief.\n\nName a colour." in first
    assert "A GOOD ANSWER, TO COMPARE WITH]\ndark red\n" in first
    assert answers_in(first) == ["dark red"]
    other = next(text for text in asked if "Hi." in text)
    assert "GOOD ANSWER" not in other, "of a conversation, the reference is to the last turn"
    assert graded.judged("long").pairs is None, "there is nobody to compare with"


def test_the_reference_that_does_not_run_gives_its_answers_to_the_judge(graded: Graded) -> None:
    graded.reference = "ref"

    class Both(BigramEngine):
        async def stream(self, request: GenerationRequest, *, whole: bool = False):  # type: ignore[no-untyped-def]
            async for chunks in super().stream(request):
                yield [msgspec.structs.replace(chunk, text="a quite long answer") for chunk in chunks]

    loads: list[str] = []

    async def load(spec: ModelSpec, on_progress: Callable[[float], None] | None) -> EngineClient:
        loads.append(spec.name)
        return RuledJudge(by_length) if spec.name == "judge" else Both(table())

    graded._load_any = load  # type: ignore[method-assign]
    assert graded.run("cand") == 0
    pairs = graded.judged("cand").pairs
    assert pairs is not None
    assert (pairs.against, pairs.pairs, pairs.identical) == ("ref", 3, 3)
    assert graded.run("cand") == 0
    assert loads == ["ref", "cand", "judge", "cand", "judge"], "the reference's answers are kept"


def test_answers_that_cannot_be_judged_are_counted(graded: Graded) -> None:
    def too_long(asked: str, n: int) -> Sequence[float]:
        if "Name two." in asked:
            raise ContextLengthError("the prompt has 9000 tokens, the context holds 512")
        return by_length(asked, n)

    graded.rule = too_long
    assert graded.run("short") == 0
    found = graded.judged("short")
    assert (found.answers, found.failed) == (2, 1)
    assert found.score == pytest.approx(1 / 3)
    said = "1 of 3 answers could not be judged: the prompt has 9000 tokens"
    assert [note for note in graded.model.notes if said in note]


def test_a_judge_that_fails_costs_a_note(graded: Graded, capsys: pytest.CaptureFixture[str]) -> None:
    graded.scripts["judge"] = DoesNotFitError("judge needs 90 GB", hint="choose a smaller one")
    assert graded.run("short", "long") == 0
    results = graded.results
    assert results.run.status == "complete"
    assert [len(model.loads) for model in results.models] == [1, 1]
    assert all(any("judge needs 90 GB" in note for note in model.notes) for model in results.models)
    assert all(model.quality.judge is None for model in results.models)
    assert "judge needs 90 GB" in capsys.readouterr().err
    assert "judge needs 90 GB" in (graded.folder / "report.md").read_text()


def test_an_interrupt_while_judging_keeps_the_loads_and_what_was_judged(graded: Graded) -> None:
    def interrupt(asked: str, n: int) -> Sequence[float]:
        if "Name two." in asked:
            signal.raise_signal(signal.SIGINT)
        return by_length(asked, n)

    graded.rule = interrupt
    assert graded.run("short", "long") == 130
    results = graded.results
    assert (results.run.status, results.run.reason) == ("partial", "interrupted")
    assert [load.partial for model in results.models for load in model.loads] == [False, False]
    assert graded.judged("short").answers == len(read_judgements(graded.folder)) == 1
    assert results.models[1].quality.judge is None
    assert all(engine.closed for engine in graded.graders)  # type: ignore[attr-defined]


def test_an_endpoint_that_does_not_answer_is_told_before_anything_runs(graded: Graded) -> None:
    graded.scripts["judge"] = RemoteEngineError("cannot reach http://127.0.0.1:1/v1")
    locate = graded._locate
    graded._locate = lambda config: (  # type: ignore[method-assign]
        msgspec.structs.replace(locate(config), format="openai" if config.model.name == "judge" else "gguf")
    )
    with pytest.raises(RemoteEngineError):
        graded.run("short")
    assert not graded.engines
    assert "cannot reach" in str(graded.results.run.reason)


def test_similarity_to_reference_answers_needs_no_judge(graded: Graded) -> None:
    graded.judge_config = JudgeConfig()
    assert graded.run("short", "long") == 0
    short, long = (model.quality.similarity for model in graded.results.models)
    assert short is not None
    assert long is not None
    assert (short.prompts, short.answers) == (2, 4)  # a, and the last turn of c, twice each
    assert short.f1 == pytest.approx(2 * 1 / 3)
    assert (long.f1, long.recall, long.rouge_l) == (1, 1, 1)
    assert "Similarity to reference answers" in (graded.folder / "report.md").read_text()
    assert model_metrics(graded.model)["quality/similarity.f1"] == short.f1
    assert not (graded.folder / "judgements.jsonl").exists()
    assert graded.graders == []


def test_similarity_can_be_left_out(graded: Graded) -> None:
    graded.similarity = SimilarityConfig(enabled=False)
    graded.run("short")
    assert graded.model.quality.similarity is None


def test_embeddings_compare_meanings(graded: Graded) -> None:
    graded.judge_config = JudgeConfig()
    graded.similarity = SimilarityConfig(model="embedder")
    assert graded.run("short", "long") == 0
    short, long = (model.quality.similarity for model in graded.results.models)
    assert short is not None
    assert long is not None
    assert (short.embedded_by, long.embedding) == ("embedder", pytest.approx(1))
    assert short.embedding == pytest.approx(1 * 2 / (1 * 5**0.5))  # (1, 0) beside (2, 1)
    assert "embedding" in (graded.folder / "report.md").read_text()


def test_settings_of_graders_are_composed_and_checked(compose_config: Compose) -> None:
    config = compose_config(
        "mode=compare", "models=[smollm2_gguf]", "judge.model=openai", "judge.base_url=http://h:1/v1",
        "judge.remote_model=big",
    )  # fmt: skip
    assert config.judge.overrides == ["backend.base_url='http://h:1/v1'", "backend.remote_model='big'"]
    with pytest.raises(UserInputError, match="without a model"):
        JudgeConfig(base_url="http://x/v1")
    with pytest.raises(UserInputError, match="both false"):
        JudgeConfig(model="remote", score=False, pairwise=False)


def test_a_remote_judge_is_asked_at_its_own_address(run_program: Run, tmp_path: Path) -> None:
    done = run_program(
        "mode=benchmark", "model=smollm2_gguf", "judge.model=openai", "judge.base_url=http://127.0.0.1:1/v1",
        "tracking=none",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "cannot reach http://127.0.0.1:1/v1" in done.stderr
    (folder,) = (tmp_path / "outputs").glob("*/*-benchmark")
    assert json.loads((folder / "results.json").read_text())["models"] == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["judge.model=smollm2_bf16", "judge.base_url=http://x/v1"], "'smollm2_bf16' runs here"),
        (["judge.model=smollm2_gguf", "judge.rubric=nowhere.yaml"], "rubric nowhere.yaml cannot be read"),
    ],
)
def test_a_judge_that_makes_no_sense_is_refused(run_program: Run, settings: list[str], said: str) -> None:
    done = run_program("mode=benchmark", "model=smollm2_gguf", "tracking=none", *settings)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
