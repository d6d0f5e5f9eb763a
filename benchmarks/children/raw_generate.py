"""Static-batch `generate` of transformers: `raw_generate.py FOLDER N_THREADS DTYPE`, "auto" for the stored dtype."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

os.environ["GPTQMODEL_CPU_WORKERS"] = sys.argv[2]
stdout, sys.stdout = sys.stdout, sys.stderr  # the libraries print

import torch  # noqa: E402
from jobs import answer_jobs  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402


def main() -> None:
    folder, threads, dtype = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    if dtype != "auto":
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.data = parameter.data.to(getattr(torch, dtype))
    model.eval()
    sys.stdout = stdout

    def run(job: dict[str, Any]) -> dict[str, Any]:
        prompts: list[list[int]] = job["prompts"]
        longest = max(map(len, prompts))
        tokens = torch.tensor([[0] * (longest - len(p)) + p for p in prompts])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        began = time.perf_counter()
        output = model.generate(
            tokens,
            attention_mask=mask,
            max_new_tokens=job["n_tokens"],
            min_new_tokens=job["n_tokens"],
            do_sample=False,
            pad_token_id=0,
        )
        return {"seconds": time.perf_counter() - began, "last": output[:, -1].tolist()}

    answer_jobs(run)


main()
