"""Verdicts that claim no more than was measured.

The kind: a reference made from the very model that is compared with it, figures that no working quantization has, and
speeds taken from a handful of requests. Public reports: vllm #38966 and #26343 (GPTQ checkpoints with mislabelled zero
points answer with endless nonsense), lm-evaluation-harness #1465 (models that need a BOS).
"""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import msgspec
import pytest
from omegaconf import OmegaConf
from rich.console import Console

from lqmf_runner.config import VerdictConfig
from lqmf_runner.models.demo_family import DEMO_FOLDERS, DEMO_REFERENCE, DEMO_SOURCE
from lqmf_runner.models.lineage import read_origins
from lqmf_runner.reports.display import BenchmarkDisplay
from lqmf_runner.reports.document import Paragraph, run_document
from lqmf_runner.results.broken import why_broken
from lqmf_runner.results.lineage import Origin, grid_of, why_uncounted
from lqmf_runner.results.quality import KldSummary, Quality, ReferenceFigures
from lqmf_runner.results.schema import ModelResult
from lqmf_runner.verdict.verdict import draw_verdict

from ...support.runs.sample import sample_model, sample_results

GGUF = Origin(name="shipped", version="v-gguf", method="Q4_1", bits=4.0)
BF16 = Origin(name="ref", version="v-ref", method="bfloat16", bits=16.0)
REFERENCE = ReferenceFigures(
    name="ref", version="v-ref", dtype="float32", perplexity=10.0, text="shipped", text_digest="d", tokens=4096,
    windows=8, positions=2048, origins=[GGUF],
)  # fmt: skip


def measured(name: str, kld: float, speed: float, **quality: object) -> ModelResult:
    found = Quality(kld=KldSummary(mean=kld, mean_se=kld / 20), reference=REFERENCE, **quality)  # type: ignore[arg-type]
    model = sample_model(name)
    load = msgspec.structs.replace(model.loads[0], output_tokens_per_s=speed, repeats={})
    return msgspec.structs.replace(model, quality=found, loads=[load])


@pytest.mark.parametrize(
    ("version", "origins", "counts"),
    [
        ("v-ref", [GGUF], True),  # the reference itself
        ("v-gguf", [], False),  # what it was made from
        ("v-nf4", [BF16, GGUF], True),  # made from the reference
        ("v-q8", [GGUF], True),  # made from the very weights that the reference has
        ("v-stranger", [], True),  # nobody says
        (None, [], True),
    ],
)
def test_fidelity_counts_unless_the_reference_was_made_from_the_model(
    version: str | None, origins: list[Origin], counts: bool
) -> None:
    assert (why_uncounted(version, origins, "ref", "v-ref", [GGUF]) is None) == counts


def test_fidelity_does_not_count_where_the_reference_was_made_from_a_sibling() -> None:
    original = Origin(name="original", version="v-0", method="bfloat16", bits=16.0)
    why = why_uncounted("v-q8", [original], "ref", "v-ref", [GGUF, original])
    assert why == "the reference ref was made from shipped, which has the same origin"


def test_a_model_that_the_reference_was_made_from_does_not_win_by_its_fidelity() -> None:
    parent = measured("shipped", 0.003, 200, uncounted="the reference ref was made from it")
    verdict = draw_verdict([parent, measured("nf4", 0.2, 100)], VerdictConfig())
    assert verdict is not None
    assert verdict.winner == "nf4"
    assert any("does not count: the reference ref was made from it" in said for said in verdict.cautions)
    assert any("grid of 4 bits already" in said for said in verdict.cautions)


def test_a_bound_on_fidelity_is_not_met_by_fidelity_that_does_not_count() -> None:
    parent = measured("shipped", 0.003, 200, uncounted="the reference ref was made from it")
    verdict = draw_verdict([parent, measured("nf4", 0.05, 100)], VerdictConfig(max_kld=0.1))
    assert verdict is not None
    judged = {model.name: model for model in verdict.models}
    assert not judged["shipped"].qualifies
    assert "KLD does not count" in judged["shipped"].why


@pytest.mark.parametrize(
    ("quality", "word"),
    [
        (Quality(kld=KldSummary(mean=5.2)), "KLD 5.20"),
        (Quality(kld=KldSummary(mean=1.2), top1_agreement=0.02), "top-1 2.0 %"),
        (Quality(perplexity_ratio=3000.0), "perplexity 3,000 times"),
    ],
)
def test_what_no_working_quantization_has_is_called_broken(quality: Quality, word: str) -> None:
    why = why_broken(quality)
    assert why is not None
    assert why.startswith("broken")
    assert word in why


@pytest.mark.parametrize(
    "quality",
    [
        Quality(),
        Quality(kld=KldSummary(mean=1.4), top1_agreement=0.35, perplexity_ratio=4.0),  # two bits
        Quality(kld=KldSummary(mean=0.01), top1_agreement=0.05),  # flat distributions of an untrained model
    ],
)
def test_a_poor_quantization_is_not_called_broken(quality: Quality) -> None:
    assert why_broken(quality) is None


def test_a_broken_model_never_qualifies_and_the_report_says_why() -> None:
    broken = measured("mislabelled", 6.0, 900, top1_agreement=0.01)
    sound = measured("nf4", 0.2, 100)
    config = VerdictConfig(min_tokens_per_s=50)
    verdict = draw_verdict([broken, sound], config)
    assert verdict is not None
    assert verdict.winner == "nf4"
    judged = {model.name: model for model in verdict.models}
    assert not judged["mislabelled"].qualifies
    assert "broken" in judged["mislabelled"].why
    assert "mislabelled" not in verdict.pareto
    alone = draw_verdict([broken], config)
    assert alone is not None
    assert alone.winner is None
    broken.notes.append(why_broken(broken.quality) or "")
    blocks = run_document(sample_results(broken, sound), [], [], {})
    assert any(isinstance(b, Paragraph) and b.warning and "mislabelled: broken" in b.text for b in blocks)


def test_the_terminal_says_what_is_wrong_with_a_model_that_no_verdict_is_about() -> None:
    broken = measured("mislabelled", 6.0, 900, top1_agreement=0.01)
    broken.notes.append(why_broken(broken.quality) or "")
    out = StringIO()
    BenchmarkDisplay([], out=Console(file=out, width=200)).table(sample_results(broken))
    assert "mislabelled: broken (" in out.getvalue()


def test_a_third_more_speed_over_two_requests_is_noise() -> None:
    def once(name: str, speed: float, requests: int) -> ModelResult:
        load = msgspec.structs.replace(
            sample_model(name).loads[0],
            requests=requests,
            succeeded=requests,
            output_tokens_per_s=speed,
            repeats={},
        )
        return msgspec.structs.replace(sample_model(name), loads=[load], quality=Quality())

    few = draw_verdict([once("a", 100, 2), once("b", 133, 2)], VerdictConfig())
    assert few is not None
    assert few.ties
    assert any("one run of 2 requests per model" in said for said in few.cautions)
    many = draw_verdict([once("a", 100, 100), once("b", 133, 100)], VerdictConfig())
    assert many is not None
    assert (many.winner, many.ties) == ("b", [])
    assert not any("one run of" in said for said in many.cautions)


def test_a_reference_that_was_never_quantized_has_no_grid() -> None:
    assert grid_of("ref", [Origin(name="original", version="v-0", bits=16.0)]) is None


def test_origins_are_read_from_records_of_both_forms(tmp_path) -> None:
    record = tmp_path / "lqmf.json"
    record.write_bytes(b'{"source": "shipped", "source_version": "v-gguf", "version": "v-ref"}')
    assert read_origins(tmp_path) == [Origin(name="shipped", version="v-gguf")]
    record.write_bytes(msgspec.json.encode({"version": "v-nf4", "origins": [BF16, GGUF]}))
    assert read_origins(tmp_path) == [BF16, GGUF]
    record.write_bytes(b"{not json")
    assert read_origins(tmp_path) == []


def test_the_demo_compares_no_model_that_its_reference_was_made_from() -> None:
    demo = OmegaConf.load(Path(__file__).parents[3] / "conf" / "experiment" / "demo.yaml")
    assert DEMO_SOURCE.name not in demo.models
    assert next(iter(DEMO_FOLDERS)) == DEMO_REFERENCE == demo.reference  # all others are made from it
