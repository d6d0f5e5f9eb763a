"""transformers' own continuous batching: `raw_continuous.py FOLDER DTYPE SHARE`, jobs on stdin.

SHARE is the part of the free memory that its KV cache may take: another engine is on the same device.
"""

from __future__ import annotations

import sys
import time
from typing import Any

stdout, sys.stdout = sys.stdout, sys.stderr  # the libraries print

import torch  # noqa: E402
from jobs import answer_jobs  # noqa: E402
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig  # noqa: E402


def main() -> None:
    folder, dtype, share = sys.argv[1:]
    torch.set_num_threads(1)  # on a CPU, where the model is too small for more
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), device_map=device)
    generation = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=0)
    batching = ContinuousBatchingConfig(max_memory_percent=float(share), allow_block_sharing=False)
    manager = model.init_continuous_batching(generation, batching)
    manager.warmup()
    manager.start()
    sys.stdout = stdout

    def run(job: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        left = set(manager.add_requests(job["prompts"], max_new_tokens=job["n_tokens"]))
        lengths = list[int]()
        while left:
            result = manager.get_result(timeout=1)
            if result is None:
                if not manager.is_running():
                    raise RuntimeError("its generation loop has ended")
                continue
            if result.error is not None:
                raise RuntimeError(result.error)
            if result.is_finished():
                left.discard(result.request_id)
                lengths.append(len(result.generated_tokens))
        return {"seconds": time.perf_counter() - began, "lengths": lengths}

    answer_jobs(run)
    manager.stop(block=True, timeout=10)


main()
