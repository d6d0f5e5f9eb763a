"""A bare forward pass over windows of tokens: `raw_forward.py gguf|transformers PATH THREADS DTYPE`, jobs on stdin.

Every window from an empty cache, logits of the second half copied out and nothing done with them: what scoring
perplexity would cost if it cost nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from jobs import answer_jobs

Forward = Callable[[Sequence[int], int], None]


def main() -> None:
    kind, path, threads, dtype = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    with contextlib.redirect_stdout(sys.stderr):  # the libraries print
        forward = gguf(path, threads) if kind == "gguf" else transformers(path, threads, dtype)

    def work(job: dict[str, Any]) -> dict[str, Any]:
        began = time.perf_counter()
        for window in job["windows"]:
            forward(window, job["first"])
        return {"seconds": time.perf_counter() - began}

    answer_jobs(work)


def gguf(path: str, threads: int) -> Forward:
    import llama_cpp
    import numpy as np

    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = 0  # the faster one on a CPU
    context = llama_cpp.llama_init_from_model(model, params)
    n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    batch = llama_cpp.llama_batch_init(512, 0, 1)

    def forward(window: Sequence[int], first: int) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        batch.n_tokens = len(window)
        for i, token in enumerate(window):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0] = token, i, 1, 0
            batch.logits[i] = i >= first - 1
        assert llama_cpp.llama_decode(context, batch) == 0
        rows = len(window) - first + 1
        np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (rows, n_vocab)).copy()

    return forward


def transformers(path: str, threads: int, dtype_name: str) -> Forward:
    os.environ["GPTQMODEL_CPU_WORKERS"] = str(threads)
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    dtype = getattr(torch, dtype_name)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()
    for module in model.modules():
        if hasattr(module, "compute_dtype"):  # a bitsandbytes layer, which keeps the one it was saved with
            module.compute_dtype = dtype
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)

    def forward(window: Sequence[int], first: int) -> None:
        keep = len(window) - first + 1
        model(torch.tensor([list(window)]), use_cache=False, logits_to_keep=keep).logits[0].float().numpy()

    return forward


if __name__ == "__main__":
    main()
