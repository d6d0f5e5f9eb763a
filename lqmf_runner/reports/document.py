"""The content of a report as a list of blocks, which Markdown and HTML render."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from ..results.broken import why_broken
from ..results.schema import Judgement, ModelResult, RequestRecord, Results
from . import figures as fig
from . import grades
from .columns import LOAD_COLUMNS, best_cells, summary_columns, telling
from .glossary import GLOSSARY
from .side_by_side import Comparison, compare_answers, marked_against

if TYPE_CHECKING:
    from .plots.style import Plot

PROMPTS_SHOWN = 5


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 or 2."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; a `warning` is highlighted."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class VerdictBox:
    """Which model to run, and why. `qualifies` is false if none does."""

    headline: str
    reasons: Sequence[str]
    cautions: Sequence[str]
    qualifies: bool


@dataclass(frozen=True)
class Table:
    """A table. The first `text_columns` are text, the others numbers; `best` are (row, column) of the best cells."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    text_columns: int = 1
    best: Collection[tuple[int, int]] = ()
    title: str = ""


@dataclass(frozen=True)
class Plots:
    """Pictures that belong together."""

    plots: Sequence[Plot]


@dataclass(frozen=True)
class Verbatim:
    """Text of a model or a user, shown literally under a title."""

    title: str
    text: str


@dataclass(frozen=True)
class Answers:
    """Answers side by side. `is_open`: unfolded at first."""

    comparison: Comparison
    is_open: bool


@dataclass(frozen=True)
class Command:
    """A command line, ready to be copied."""

    text: str


@dataclass(frozen=True)
class Facts:
    """Names and values; `folded` away under the title until asked for."""

    title: str
    rows: Sequence[tuple[str, str]] = field(default_factory=list)
    folded: bool = False


Block = Heading | Paragraph | VerdictBox | Table | Plots | Verbatim | Answers | Command | Facts


def run_document(
    results: Results,
    records: Sequence[RequestRecord],
    plots: Sequence[Plot],
    config: Mapping[str, Any],
    judgements: Sequence[Judgement] = (),
) -> list[Block]:
    """The report of a run: the verdict first, then the comparison, then the evidence.

    Args:
        config: the resolved configuration, flat and without secrets; empty if it is not known.
    """
    run = results.run
    blocks: list[Block] = [
        Heading(1, _title(results)),
        Paragraph(_subtitle(results)),
    ]
    if run.status != "complete":
        blocks.append(Paragraph(f"This run is partial: {run.reason}", warning=True))
    blocks += _verdict(results)
    blocks += _comparison(results)
    if plots:
        blocks.append(Plots(plots))
    blocks += _fidelity(results.models)
    blocks += _grades(results.models)
    blocks += _answers(results, records, config, judgements)
    blocks += _loads(results)
    blocks += _failures(records)
    blocks += [Facts("What the words mean", GLOSSARY, folded=True)]
    blocks += [Heading(2, "Run it again"), Command(run.command)]
    blocks += _run_blocks(results, config)
    return blocks


def summary_document(results: Results, model: ModelResult | None = None) -> list[Block]:
    """The verdict and the comparison alone; of one model, its row."""
    if model is not None:
        return _comparison(msgspec.structs.replace(results, models=[model]))[1:]
    return [*_verdict(results)[:1], *_comparison(results)[1:]]


def _title(results: Results) -> str:
    """The models by name, or their number if there are more than three."""
    names = [model.name for model in results.models]
    what = " + ".join(names) if len(names) <= 3 else f"{len(names)} models"
    return f"{results.run.mode}: {what or results.run.name}"


def _subtitle(results: Results) -> str:
    system, count = results.system, len(results.models)
    where = ", ".join(gpu.name for gpu in system.gpus) or system.cpu
    started = results.run.started_at.replace("T", " ")
    return f"{count} model{'' if count == 1 else 's'} · {started} · {where}, {system.cores} cores"


def _verdict(results: Results) -> list[Block]:
    verdict = results.verdict
    if verdict is None:
        return []
    box = VerdictBox(
        verdict.headline, verdict.sentences, verdict.cautions, qualifies=verdict.winner is not None
    )
    blocks: list[Block] = [box]
    if verdict.models:
        ranks: list[tuple[str, ...]] = [
            (
                "yes" if model.on_front else "no",
                fig.UNKNOWN if model.rank is None else str(model.rank),
                fig.UNKNOWN if model.score is None else f"{model.score:.2f}",
            )
            for model in verdict.models
        ]
        why: list[tuple[str, ...]] = [
            ("yes" if model.qualifies else "no", model.why) for model in verdict.models
        ]
        heads: tuple[str, ...] = ("qualifies", "why")
        if len(why) > 1 and len(set(why)) == 1:  # said of all, it tells nothing
            heads, why = (), [()] * len(why)
        places: tuple[str, ...] = ("on the Pareto front", "rank", "score")
        if all(model.score is None for model in verdict.models):  # nobody was ranked
            places, ranks = (), [()] * len(ranks)
        rows = [
            (model.name, *own, *rank) for model, own, rank in zip(verdict.models, why, ranks, strict=True)
        ]
        heads = ("model", *heads, *places)
        blocks.append(Table(heads, rows, text_columns=len(heads) - 2 * bool(places)))
    if verdict.differences:
        found = [
            (f"{d.model} against {d.baseline}", d.text, "yes" if d.beyond_noise else "no")
            for d in verdict.differences
        ]
        blocks.append(Table(("models", "difference", "more than noise"), found, text_columns=3))
    return blocks


def _comparison(results: Results) -> list[Block]:
    columns = summary_columns(results)
    table = Table(
        heads=[" ".join(c.head.split()) for c in columns],
        rows=[[c.cell(model) for c in columns] for model in results.models],
        text_columns=sum(not c.is_number for c in columns),
        best=best_cells(columns, results.models),
    )
    blocks: list[Block] = [Heading(2, "Comparison"), table]
    if any(load.partial for model in results.models for load in model.loads):
        blocks.append(Paragraph("* cut short: figures of the requests that had ended"))
    blocks += [Paragraph(sentence) for sentence in fig.references(results.models)]
    for model in results.models:
        blocks += [Paragraph(f"{model.name} ended early: {model.error}", warning=True)] if model.error else []
        alarming = why_broken(model.quality)
        blocks += [Paragraph(f"{model.name}: {note}", warning=note == alarming) for note in model.notes]
    return blocks


def _fidelity(models: Sequence[ModelResult]) -> list[Block]:
    """What was measured against the reference, in full."""
    rows = []
    for model in models:
        quality, kld, parting = model.quality, model.quality.kld, model.quality.divergence
        if kld is not None:
            rows.append(
                (
                    model.name,
                    fig.kld(model),
                    *(fig.number(value) for value in (kld.median, kld.p90, kld.p99)),
                    fig.top1(model),
                    fig.plus_minus(quality.perplexity, quality.perplexity_se),
                    fig.plus_minus(quality.perplexity_ratio, quality.perplexity_ratio_se),
                    fig.divergence(model),
                    fig.UNKNOWN
                    if parting is None
                    else f"{fig.percent(parting.identical)} of {len(parting.first)}",
                )
            )
    heads = (
        "",
        "KLD mean ± SE",
        "median",
        "p90",
        "p99",
        "top-1",
        "perplexity ± SE",
        "of the reference's ± SE",
        "differs at token",
        "never differ",
    )
    if not rows:
        return []
    return [Heading(2, "Fidelity"), *_in_plain_words(models), Table(heads, rows), *_how_computed(models)]


def _in_plain_words(models: Sequence[ModelResult]) -> list[Block]:
    """How often each model agrees with its reference: the figure that needs no explanation."""
    return [
        Paragraph(
            f"Of 100 next tokens, {model.name} chooses {model.quality.top1_agreement * 100:.0f} as "
            f"{model.quality.reference.name} does."
        )
        for model in models
        if model.quality.top1_agreement is not None and model.quality.reference is not None
    ]


def _how_computed(models: Sequence[ModelResult]) -> list[Block]:
    """How greedy answers and decisions were kept independent of the batch."""
    asked = [m for m in models if m.quality.divergence or m.quality.decisions]
    alone = [m.name for m in asked if m.batch_invariant is False]
    together = [m.name for m in asked if m.batch_invariant]
    sentences = [
        f"Greedy answers and decisions, {how}: {', '.join(names)}"
        for how, names in (("one request at a time", alone), ("with batch_invariant", together))
        if names
    ]
    return [Paragraph(sentence) for sentence in sentences]


def _grades(models: Sequence[ModelResult]) -> list[Block]:
    """Decisions, similarity to reference answers, and what the judge says."""
    tables = [
        Table(heads, rows, text_columns=columns, title=title)
        for title, columns, (heads, rows) in (
            ("Decisions, beside the reference's", 1, grades.decision_rows(models)),
            ("Similarity to reference answers", 1, grades.similarity_rows(models)),
            ("Judge's scores, 0 to 1", 1, grades.judge_rows(models)),
            ("Judge's preference, in both orders", 2, grades.pair_rows(models)),
        )
        if rows
    ]
    if not tables:
        return []
    judge = grades.judged_by(models)
    return [Heading(2, "Quality of answers"), *tables, *([Paragraph(judge)] if judge else [])]


def _answers(
    results: Results,
    records: Sequence[RequestRecord],
    config: Mapping[str, Any],
    judgements: Sequence[Judgement],
) -> list[Block]:
    """Answers of the models to the same prompts."""
    entries = config.get("prompts.entries") or []
    known = {entry["id"]: entry.get("prompt") or (entry.get("turns") or [""])[0] for entry in entries}
    shown = compare_answers(results, records, known, PROMPTS_SHOWN, judgements)
    if not shown:
        return []
    marked = marked_against(results, shown)
    return [
        Heading(2, "Answers"),
        *([Paragraph(marked)] if marked else []),
        *(Answers(each, is_open=n < 2) for n, each in enumerate(shown)),
    ]


def _loads(results: Results) -> list[Block]:
    blocks: list[Block] = [_model_loads(model) for model in results.models if model.loads]
    scored = [(model.name, score) for model in results.models if (score := model.quality.heuristic)]
    if scored:
        rows = [
            [name, *(f"{part:.2f}" for part in (s.score, s.length, s.relevance, s.coherence))]
            for name, s in scored
        ]
        heads = ["", "score", "length of 0.3", "relevance of 0.3", "coherence of 0.4"]
        blocks.append(Table(heads, rows, title="Heuristic quality"))
    return [Heading(2, "All loads"), *blocks] if blocks else []


def _model_loads(model: ModelResult) -> Table:
    columns = telling(LOAD_COLUMNS, model.loads)
    return Table(
        heads=[column.head for column in columns],
        rows=[[column.cell(load) for column in columns] for load in model.loads],
        title=model.name,
    )


def _failures(records: Sequence[RequestRecord]) -> list[Block]:
    errors = list(dict.fromkeys(f"{r.model} {r.load}: {r.error}" for r in records if r.error))
    if not errors:
        return []
    return [Heading(2, "Failed requests"), Verbatim(f"{len(errors)} kinds", "\n".join(errors[:20]))]


def _run_blocks(results: Results, config: Mapping[str, Any]) -> list[Block]:
    run, system = results.run, results.system
    rows = [
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
    blocks: list[Block] = [Heading(2, "Run and machine"), Facts("", rows)]
    if config:
        settings = [(name, str(value)) for name, value in config.items() if name != "prompts.entries"]
        blocks.append(Facts("Configuration", settings, folded=True))
    return blocks
