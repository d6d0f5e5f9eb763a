"""The bare engine: llama_decode in a loop, no server, no scheduler, no text. `raw_llama.py FILE N_THREADS KV FLASH`.

KV is "split" (one stream a sequence) or "unified"; FLASH is 1 with flash attention, else 0.
"""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any

import llama_cpp
import numpy as np
from jobs import answer_jobs

N_BATCH = 512
N_SEQUENCES = 16
N_TOKENS = 1024


def main() -> None:
    path, threads, kv, flash = sys.argv[1:]
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    params = llama_cpp.llama_context_default_params()
    params.n_ctx, params.n_seq_max = N_SEQUENCES * N_TOKENS, N_SEQUENCES
    params.n_batch = params.n_ubatch = N_BATCH
    params.n_threads = params.n_threads_batch = int(threads)
    params.flash_attn_type = int(flash)
    params.kv_unified = kv == "unified"
    params.no_perf = True
    context = llama_cpp.llama_init_from_model(model, params)
    memory = llama_cpp.llama_get_memory(context)
    batch = llama_cpp.llama_batch_init(N_BATCH, 0, 1)

    def decode(entries: list[tuple[int, int, int, bool]]) -> list[int]:
        """Run (token, position, sequence, wants logits) entries; the most likely next token of those that want."""
        for i, (token, position, sequence, wanted) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, wanted
            batch.seq_id[i][0] = sequence
        batch.n_tokens = len(entries)
        if llama_cpp.llama_decode(context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        rows = sum(wanted for *_, wanted in entries)
        if not rows:
            return []
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (rows, n_vocab))
        return [int(row.argmax()) for row in logits]

    def run(job: dict[str, Any]) -> dict[str, Any]:
        llama_cpp.llama_memory_clear(memory, True)
        prompts: list[list[int]] = job["prompts"]
        began = time.perf_counter()
        current = []
        waiting = [
            [(t, i, sequence, i == len(prompt) - 1) for i, t in enumerate(prompt)]
            for sequence, prompt in enumerate(prompts)
        ]
        if kv == "unified":  # one cache: prompts can share a batch; with streams each is faster by itself
            waiting = [[entry for entries in waiting for entry in entries]]
        for entries in waiting:
            for at in range(0, len(entries), N_BATCH):
                current += decode(entries[at : at + N_BATCH])
        for step in range(job["n_tokens"] - 1):
            current = decode([(t, len(prompts[s]) + step, s, True) for s, t in enumerate(current)])
        return {"seconds": time.perf_counter() - began, "last": current}

    answer_jobs(run)


log_callback = llama_cpp.llama_log_callback(lambda *_: None)
llama_cpp.llama_log_set(log_callback, ctypes.c_void_p(0))
main()
