"""Several choices of one prompt, their counts, and the package's place below the server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lqmf_runner.openai_api.exchange import choices, total_usage
from lqmf_runner.types import GenerationRequest, SamplingParams, Usage

ROOT = Path(__file__).resolve().parents[2]


def test_choices_have_seeds_of_their_own() -> None:
    def seeds(seed: int | None, n: int) -> list[int | None]:
        request = GenerationRequest(prompt="a", sampling=SamplingParams(seed=seed))
        return [choice.sampling.seed for choice in choices(request, n)]

    assert seeds(None, 2) == [None, None]
    assert seeds(5, 1) == [5]
    assert seeds(5, 3) == [5, 6, 7]
    assert len(set(seeds(2**63 - 1, 3))) == 3
    assert all(-(2**63) <= (seed or 0) < 2**63 for seed in seeds(2**63 - 1, 3))


def test_a_prompt_counts_once_for_all_its_choices() -> None:
    one = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3, queue_s=1.0, decode_s=2.0)
    other = Usage(prompt_tokens=10, cached_tokens=10, completion_tokens=5, decode_s=3.0)
    assert total_usage({0: one, 1: other}, 2) == Usage(
        prompt_tokens=10, cached_tokens=4, completion_tokens=8, queue_s=1.0, decode_s=3.0
    )
    assert total_usage({0: one, 1: other}, 1).prompt_tokens == 20


def test_it_needs_neither_the_server_nor_sockets() -> None:
    program = (
        "import importlib, pkgutil, sys, lqmf_runner.openai_api as api\n"
        "for found in pkgutil.walk_packages(api.__path__, api.__name__ + '.'):\n"
        "    importlib.import_module(found.name)\n"
        "above = {'litestar', 'uvicorn', 'httpx', 'lqmf_runner.server', 'lqmf_runner.engine'}\n"
        "print(sorted(above & set(sys.modules)))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
