"""What a report says, independent of how it is written: a list of blocks that Markdown and HTML render."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..experiments.results import ModelResult, RequestRecord, Results
from ..quality.verdict import Verdict
from . import figures as fig
from .columns import load_heads, load_row, summary_columns

SAMPLES = 3


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 to 3."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `warning` draws the eye."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Table:
    """A table. The first `text_columns` are text, the others numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1


@dataclass(frozen=True)
class Image:
    """A picture in the run's folder."""

    path: Path
    alt: str


@dataclass(frozen=True)
class Verbatim:
    """Text that a model or a user produced, shown as it is under a title."""

    title: str
    text: str


Block = Heading | Paragraph | Table | Image | Verbatim


def benchmark_document(
    results: Results, records: Sequence[RequestRecord], plots: Sequence[Path]
) -> list[Block]:
    """The report of a benchmark: the comparison first, then the evidence."""
    run = results.run
    blocks: list[Block] = [Heading(1, f"{run.mode}: {run.name}")]
    if run.status != "complete":
        blocks.append(Paragraph(f"This run is partial: {run.reason}", warning=True))
    if results.verdict is not None:
        blocks += _verdict_blocks(results.verdict)
    columns = summary_columns(results)
    blocks.append(
        Table(
            heads=[" ".join(c.head.split()) for c in columns],
            rows=[[c.cell(model) for c in columns] for model in results.models],
            text_columns=sum(not c.is_number for c in columns),
        )
    )
    if any(load.partial for model in results.models for load in model.loads):
        blocks.append(Paragraph("* cut short: over the requests that had ended"))
    blocks += [Paragraph(sentence) for sentence in fig.references(results.models)]
    blocks += [Image(path, path.stem) for path in plots]
    for model in results.models:
        blocks += _model_blocks(model)
    blocks += _samples(results, records)
    blocks += _run_blocks(results)
    return blocks


def _verdict_blocks(verdict: Verdict) -> list[Block]:
    """The verdict with its reasons, and for each model whether it qualifies and why not."""
    blocks: list[Block] = [Heading(2, f"Verdict: {verdict.headline}")]
    blocks += [Paragraph(sentence) for sentence in verdict.sentences]
    blocks += [Paragraph(caution, warning=True) for caution in verdict.cautions]
    rows = [
        (
            model.name,
            "yes" if model.qualifies else "no",
            model.why,
            "yes" if model.on_front else "no",
            fig.UNKNOWN if model.rank is None else str(model.rank),
            fig.UNKNOWN if model.score is None else f"{model.score:.2f}",
        )
        for model in verdict.models
    ]
    heads = ("model", "qualifies", "why", "on the Pareto front", "rank", "score")
    blocks.append(Table(heads, rows, text_columns=4))
    if verdict.differences:
        found = [
            (f"{d.model} against {d.baseline}", d.text, "yes" if d.beyond_noise else "no")
            for d in verdict.differences
        ]
        blocks.append(Table(("models", "difference", "more than noise"), found, text_columns=3))
    return blocks


def _model_blocks(model: ModelResult) -> list[Block]:
    blocks: list[Block] = [Heading(2, model.name)]
    if model.error:
        blocks.append(Paragraph(f"Ended early: {model.error}", warning=True))
    blocks += [Paragraph(note) for note in model.notes]
    if model.loads:
        blocks.append(Table(load_heads(), [load_row(load) for load in model.loads]))
    score = model.quality.heuristic
    if score is not None:
        blocks.append(
            Paragraph(
                f"Heuristic quality {score.score:.2f} = length {score.length:.2f} of 0.3 + relevance "
                f"{score.relevance:.2f} of 0.3 + coherence {score.coherence:.2f} of 0.4."
            )
        )
    quality = model.quality
    kld, parting = quality.kld, quality.divergence
    if kld is not None:
        blocks.append(
            Paragraph(
                f"KL divergence from the reference {fig.kld(model)} in the mean, median {fig.number(kld.median)}, "
                f"p90 {fig.number(kld.p90)}, p99 {fig.number(kld.p99)}; the same most likely token at "
                f"{fig.top1(model)} of positions; perplexity "
                f"{fig.plus_minus(quality.perplexity, quality.perplexity_se)}, "
                f"{fig.plus_minus(quality.perplexity_ratio, quality.perplexity_ratio_se)} of the reference's."
            )
        )
    if parting is not None:
        blocks.append(
            Paragraph(
                f"Greedy answers part from the reference's at token {fig.divergence(model)} in the median; "
                f"{fig.percent(parting.identical)} of {len(parting.first)} never do within {parting.tokens} tokens."
            )
        )
    return blocks


def _samples(results: Results, records: Sequence[RequestRecord]) -> list[Block]:
    """Answers of each model to the same first prompts, and what went wrong."""
    blocks: list[Block] = []
    answered = [r for r in records if r.error is None and r.turn == 0]
    prompts = list(dict.fromkeys(r.prompt_id for r in answered))[:SAMPLES]
    for prompt in prompts:
        for model in results.models:
            record = next((r for r in answered if (r.prompt_id, r.model) == (prompt, model.name)), None)
            if record is not None:
                score = f", heuristic {record.heuristic.score:.2f}" if record.heuristic else ""
                title = (
                    f"{prompt} · {model.name} · {record.output_tokens} tokens, {record.finish_reason}{score}"
                )
                blocks.append(Verbatim(title, record.text))
    if blocks:
        blocks.insert(0, Heading(2, "Sample answers"))
    errors = list(dict.fromkeys(f"{r.model} {r.load}: {r.error}" for r in records if r.error))
    if errors:
        blocks += [Heading(2, "Failed requests"), Verbatim(f"{len(errors)} kinds", "\n".join(errors[:20]))]
    return blocks


def _run_blocks(results: Results) -> list[Block]:
    run, system = results.run, results.system
    rows = [
        ("command", run.command),
        ("started", run.started_at),
        ("finished", run.finished_at or fig.UNKNOWN),
        ("commit", run.git_commit or fig.UNKNOWN),
        ("run id", run.id),
        ("processor", f"{system.cpu}, {system.cores} cores"),
        ("memory", fig.megabytes(system.ram_mb)),
        ("memory bandwidth, measured", fig.number(system.memory_bandwidth_gb_s, " GB/s")),
        ("GPUs", ", ".join(f"{gpu.name} ({fig.megabytes(gpu.memory_mb)})" for gpu in system.gpus) or "none"),
        ("system", f"{system.os}, Python {system.python}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in system.packages.items())),
        *((f"weights of {m.name}", m.version) for m in results.models if m.version),
    ]
    return [Heading(2, "Run and machine"), Table(("", ""), rows, text_columns=2)]
