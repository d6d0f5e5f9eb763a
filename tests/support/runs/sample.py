"""Results of a run that never was, for tests of reports and tracking."""

from __future__ import annotations

from lqmf_runner.load.metrics import load_result
from lqmf_runner.results.quality import HeuristicScore, Quality
from lqmf_runner.results.schema import ModelResult, RequestRecord, Results, RunRecord, Shape, SystemInfo
from lqmf_runner.types import MemoryUse


def sample_record(model: str, load: str, number: int, **values: object) -> RequestRecord:
    known = {
        "text": f"answer {number}", "finish_reason": "stop", "ttft_s": 0.05 + number / 1000, "e2e_s": 0.5,
        "tpot_s": 0.01, "itl_s": [0.01, 0.012], "prompt_tokens": 20, "output_tokens": 45,
        "heuristic": HeuristicScore(0.9, 0.3, 0.25, 0.35),
    }  # fmt: skip
    return RequestRecord(
        model=model, load=load, prompt_id=f"p{number}", turn=0, user=0, **{**known, **values}  # type: ignore[arg-type]
    )  # fmt: skip


def sample_model(name: str, users: tuple[int, ...] = (1, 4, 8), speed: float = 100.0) -> ModelResult:
    loads = [
        load_result(
            Shape("closed", n), [sample_record(name, f"c{n}", i) for i in range(4)], 180 / speed / n**0.4
        )
        for n in users
    ]
    return ModelResult(
        name=name, format="gguf", method="Q4_1", bits=4.0, bits_per_weight=5.83, version="abc", size_mb=98.2,
        parameters=134_515_008, device="cpu", load_time_s=0.61, memory=MemoryUse(rss_mb=270.4, peak_rss_mb=280.0),
        loads=loads, quality=Quality(heuristic=HeuristicScore(0.9, 0.3, 0.25, 0.35)),
    )  # fmt: skip


def sample_results(*models: ModelResult) -> Results:
    return Results(
        run=RunRecord(
            id="0123456789ab", mode="benchmark", name="+".join(m.name for m in models), status="complete",
            started_at="2026-01-02T03:04:05+00:00", finished_at="2026-01-02T03:05:05+00:00",
            command="python -m lqmf_runner mode=benchmark",
        ),
        system=SystemInfo(
            cpu="A Processor", cores=2, ram_mb=24_000.0, os="Linux", python="3.11", memory_bandwidth_gb_s=30.0,
            packages={"numpy": "2.2.6"},
        ),
        models=list(models),
    )  # fmt: skip
